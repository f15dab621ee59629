//! Tests from outside: one binary, a module for each capability.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod admin;
mod bad_input;
mod client_hello;
mod commands;
mod config;
mod docs;
mod first_steps;
mod health;
mod lifecycle;
mod limits;
mod refusals;
mod support;
