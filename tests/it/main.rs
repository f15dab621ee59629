//! Tests from outside: one binary, a module for each capability.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod admin;
mod affinity;
mod bad_input;
mod bulk;
mod client_hello;
mod clients;
mod commands;
mod config;
mod docs;
mod ends;
mod explain;
mod failover;
mod first_steps;
mod health;
mod idle;
mod lifecycle;
mod limits;
mod log;
mod names;
mod page;
mod proxy_protocol;
mod refusals;
mod reload;
mod roaming;
mod rules;
mod scrape;
mod service;
mod store;
mod support;
mod upgrade;
mod vanished;
