//! A cluster of three nodes keeps the stream: any one of them may die.

use std::sync::Arc;

use super::{
    assert_recorded_once,
    harness::{Home, Load, Nats, Ran, Serve},
    keeper::Keeper,
    stop,
};

/// Starts a server and a keeper that use all three nodes.
#[track_caller]
fn start(url: &str, home: &Arc<Home>) -> (Serve, Keeper) {
    let serve = Serve::start(&["--frame", "line", "--store", url, "echo=:0"]);
    (serve, Keeper::start_from(url, home, &[]))
}

#[test]
fn each_node_of_a_cluster_killed_in_turn_loses_no_exchange() {
    let mut nodes = Nats::cluster();
    let url = Nats::cluster_url(&nodes, "record") + "?replicas=3";
    let home = Arc::new(Home::new());
    let (serve, keeper) = start(&url, &home);
    for stream in ["record", "record-conversations"] {
        assert_eq!(nodes[0].stream_info(stream)["config"]["num_replicas"], 3);
    }
    let load = Load::start(serve.at[0], "c", &[1, 4, 16]);
    for node in 0..3 {
        nodes[node].kill();
        // What is served from now on is recorded while the node is dead: the rest of the cluster has it.
        let served = load.received();
        load.wait_for(served + 1_500);
        let recorded = home.count(&[]);
        super::until_within(super::SLOW, "the keeper writes without the node", || {
            home.count(&[]) > recorded
        });
        nodes[node].run();
        Nats::wait_for_replicas(&nodes, "record");
    }
    let served = stop(serve, load);
    assert_recorded_once(&home, served, &["server-stopped"]);
    keeper.stop();
}

/// A stream that lives on one node does not survive it, so it is not taken for one that does.
#[test]
fn stream_with_fewer_replicas_than_the_url_asks_for_is_refused() {
    let nodes = Nats::cluster();
    let url = Nats::cluster_url(&nodes, "record");
    let home = Arc::new(Home::new());
    let (serve, keeper) = start(&url, &home);
    assert_eq!(nodes[0].stream_info("record")["config"]["num_replicas"], 1);
    let asked = url + "?replicas=3";
    let Ran { code, err, .. } = Home::new().run(&["keep", "--from", &asked]);
    assert_eq!(code, Some(1), "{err}");
    let expected = "its num_replicas is 1: expected 3, as the URL says";
    assert!(err.contains(expected), "{err}");
    serve.stop();
    keeper.stop();
}

/// One server has no replicas, and says so itself.
#[test]
fn replicas_without_a_cluster_are_refused() {
    let nats = Nats::with_jetstream();
    let url = nats.url("record") + "?replicas=3";
    let Ran { code, err, .. } = Home::new().run(&["serve", ":0", "--store", &url]);
    assert_eq!(code, Some(1), "{err}");
    assert!(
        err.contains("one node has no cluster: leave it out"),
        "{err}"
    );
    for args in [
        &["serve", ":0", "--as", &url][..],
        &["work", "upper", "--on", &url],
    ] {
        let Ran { code, err, .. } = Home::new().run(args);
        assert_eq!(code, Some(2), "{err}");
        assert!(
            err.contains("?replicas is for the URL of a --store"),
            "{err}"
        );
    }
}
