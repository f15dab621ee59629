//! Tests from outside: one binary, a module for each capability.

mod admin;
mod client_hello;
mod config;
mod health;
mod smoke;
mod support;
