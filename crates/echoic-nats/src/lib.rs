//! The seams of echoic over NATS: a service whose handlers run in other processes, and a store that is written in others.
//!
//! [`RemoteService`] is a [`Service`](echoic_core::service::Service) for a server: it sends the runs of each conversation
//! to a subject, where workers ([`work`]) in a queue group answer them. What crosses is a run, never a single message, with
//! all that another worker needs to answer it: the peer, and the state of the handler. So a worker holds nothing of a
//! conversation, and any other takes over when it dies.
//!
//! [`RemoteStore`] is a [`Store`](echoic_core::store::Store) for a recorder: it publishes batches to a stream of JetStream, from
//! which keepers ([`run_keeper`]) write them to another store, in order and each once.
//!
//! [`RemoteControl`] is the [`Control`](echoic_core::control::Control) of a console that runs elsewhere: it acts on all
//! servers that are [`Controlled`] at a NATS server.
//!
//! Each process is [`Present`] at its NATS server: it says who it is to whoever asks ([`find_processes`]).

mod alive;
mod connection;
mod control;
mod error;
mod inbox;
mod keeper;
mod keeper_counts;
mod message;
mod presence;
mod protocol;
mod remote_service;
mod remote_store;
mod stream;
mod transfer;
mod url;
mod worker;

pub use self::{
    connection::Connection,
    control::{Controlled, RemoteControl, STATE_SUBJECT},
    error::{NatsError, NatsErrorKind},
    keeper::run_keeper,
    keeper_counts::{Backlog, KeeperCounts, KeeperTotals},
    presence::{FoundProcesses, PROCESSES_SUBJECT, Present, find_processes},
    remote_service::{RemoteService, WORKER_TIMEOUT},
    remote_store::RemoteStore,
    url::{NatsServer, NatsServerError, NatsUrl, NatsUrlError},
    worker::{Worked, WorkerCounts, work},
};
