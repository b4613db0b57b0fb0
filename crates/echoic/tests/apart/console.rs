//! `echoic console` as a process of its own.
#![allow(dead_code, reason = "chaos.rs uses a part of it")]

use std::{
    net::SocketAddr,
    process::{Child, Stdio},
};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::harness::{Answer, ConsoleAt, Home, Lines, SOON, kill, signal, until, wait_for_end};

/// A running console. It is killed when this is dropped, also by a panic.
pub(super) struct Console {
    child: Child,
    pub(super) at: ConsoleAt,
}

impl Console {
    #[track_caller]
    pub(super) fn start(home: &Home, args: &[&str]) -> Self {
        let mut command = home.echoic(&[&["console", "--console", ":0"], args].concat());
        let mut child = command
            .env_remove("ECHOIC_CONSOLE")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let line = Lines::of(child.stderr.take().unwrap()).wait_for("console on http://");
        let url = line.strip_prefix("console on ").unwrap();
        let at = ConsoleAt::of(url.split(' ').next().unwrap());
        Self { child, at }
    }

    /// The endpoints of all servers.
    #[track_caller]
    pub(super) fn endpoints(&self) -> Vec<Value> {
        let listed = self.at.get("/api/v1/endpoints").json();
        listed["endpoints"].as_array().unwrap().clone()
    }

    /// Waits until an endpoint at this address is listed, and returns it.
    #[track_caller]
    pub(super) fn endpoint(&self, at: SocketAddr) -> Value {
        let url = json!(format!("tcp://{at}"));
        let mut found = None;
        until("the endpoint is listed", || {
            let listed = self.endpoints();
            found = listed.into_iter().find(|one| one["addrs"][0] == url);
            found.is_some()
        });
        found.unwrap()
    }

    #[track_caller]
    pub(super) fn set(&self, endpoint: &Value, state: &str) -> Answer {
        let path = format!("/api/v1/endpoints/{}", endpoint["id"]);
        self.at.ask("PATCH", &path, Some(&json!({"state": state})))
    }

    pub(super) fn kill(mut self) {
        kill(&mut self.child);
    }

    /// Stops it with TERM, in order.
    #[track_caller]
    pub(super) fn stop(mut self) {
        signal(&self.child, Signal::TERM);
        let ended = wait_for_end(&mut self.child, SOON).expect("it stops");
        assert_eq!(ended.code(), Some(0));
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        kill(&mut self.child);
    }
}
