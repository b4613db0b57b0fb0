//! The web console of echoic: a REST API, live events, metrics and the page.
//!
//! Floor 2. A [`Console`] reads a [`Store`](echoic_core::store::Store), watches a [`Recorder`](echoic_recorder::Recorder), and acts
//! on a server only through [`Control`](echoic_core::control::Control). Every request passes the guard (`guard.rs`) before
//! anything else sees it. A [`HealthServer`] has the routes for whoever watches a process, for one without a console.

mod assets;
mod config;
mod console;
mod cookie;
mod extract;
mod figure;
mod guard;
mod handshake;
mod headers;
mod health;
mod hosts;
mod hub;
mod json;
mod login;
mod params;
mod password;
mod problem;
mod range;
mod routes;
mod search;
mod series;
mod serve;
mod stall;
mod state;
mod strangers;
mod stream;
mod token;
mod watched;

pub use config::{ConsoleConfig, Limit, StoreDescription};
pub use console::Console;
pub use figure::{Figure, FigureUnit, FigureValue};
pub use handshake::tls_server;
pub use health::{HealthServer, Phase, Vitals};
pub use password::{InvalidPassword, Password};
pub use token::{InvalidToken, Token};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
