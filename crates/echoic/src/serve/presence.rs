//! Says who this server is, at every NATS server that it is connected to.

use std::{collections::BTreeSet, sync::Arc};

use echoic_nats::{Connection, Present, RemoteService};

use super::{plan::Plan, status::ServerState};
use crate::presence::Answering;

/// Starts to answer at the NATS servers of `--on`, of the store and of the services, at each once.
pub(super) async fn answer(
    plan: &Plan,
    on: Option<&Connection>,
    stream: Option<&Connection>,
    state: &Arc<ServerState>,
) -> Vec<Answering> {
    let services = plan.remote_services.iter();
    let services = services.filter_map(RemoteService::connection);
    let connections = on.into_iter().chain(stream).chain(services);
    let (mut servers, mut answering) = (BTreeSet::new(), Vec::new());
    for connection in connections {
        if !servers.insert(connection.url().server()) {
            continue;
        }
        let id = state.recorder.server().id;
        let present = Present::subscribe(connection, id).await;
        let present = present.map(|present| match stream {
            Some(stream) => present.with_stream(stream),
            None => present,
        });
        let state = Arc::clone(state);
        answering.push(Answering::start(present, move || state.process()));
    }
    answering
}
