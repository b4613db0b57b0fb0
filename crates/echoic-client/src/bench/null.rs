//! A server that does nothing, to measure the latency of the generator and the system alone.

use std::{io, net::Ipv4Addr, thread, time::Duration};

use echoic_core::endpoint::{Endpoint, Host, HostPort, Shape};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
    runtime,
    sync::oneshot,
    time::timeout,
};

use super::{
    expect::Expect,
    figures::percentile,
    generator::{BenchError, LoadGenerator},
    plan::{Length, Load, Plan, Run},
};

/// Length of the measurement.
const MEASURED: Duration = Duration::from_millis(200);
const WARMUP: Duration = Duration::from_millis(50);
/// Time after which the server ends in any case.
const SERVER_LIFETIME: Duration = Duration::from_secs(20);

/// Measures the median latency of one connection to an echo server in this process, over TCP or, for datagrams, UDP on the
/// loopback interface. `None` if there was no reply.
pub fn floor(plan: &Plan) -> Result<Option<Duration>, BenchError> {
    let is_datagrams = plan.endpoint.shape() == Some(Shape::Datagrams);
    let (port_sender, port) = std::sync::mpsc::sync_channel(1);
    let (stop, stopped) = oneshot::channel::<()>();
    thread::Builder::new()
        .name("bench-null".to_owned())
        .spawn(move || {
            let served = serve(is_datagrams, &port_sender, stopped);
            if let Err(error) = served {
                let _ = port_sender.send(Err(error));
            }
        })?;
    let port = port.recv().map_err(io::Error::other)??;
    let at = HostPort {
        host: Host::Ip(Ipv4Addr::LOCALHOST.into()),
        port,
    };
    let plan = Plan {
        endpoint: if is_datagrams {
            Endpoint::Udp(at)
        } else {
            Endpoint::Tcp(at)
        },
        // The replies have the framing of the requests.
        frames: plan.frames.outbound.into(),
        expect: Expect::Any,
        connections: 1,
        threads: 1,
        pipeline: 1,
        connects_per_s: None,
        churn: None,
        tls: None,
        timeout: Duration::from_secs(1),
        drain_timeout: Duration::from_secs(1),
        ..plan.clone()
    };
    let run = Run {
        load: Load::Closed,
        warmup: WARMUP,
        length: Length::For(MEASURED),
    };
    let figures = LoadGenerator::open(&plan)?.run(&run)?;
    drop(stop);
    Ok(percentile(&figures.service, 0.5))
}

fn serve(
    is_datagrams: bool,
    port: &std::sync::mpsc::SyncSender<io::Result<u16>>,
    stopped: oneshot::Receiver<()>,
) -> io::Result<()> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let serving = async {
        let mut buffer = vec![0; 64 << 10];
        if is_datagrams {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            let _ = port.send(socket.local_addr().map(|addr| addr.port()));
            loop {
                let (bytes, peer) = socket.recv_from(&mut buffer).await?;
                socket.send_to(&buffer[..bytes], peer).await?;
            }
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let _ = port.send(listener.local_addr().map(|addr| addr.port()));
        loop {
            let (mut peer, _) = listener.accept().await?;
            peer.set_nodelay(true)?;
            loop {
                let bytes = peer.read(&mut buffer).await.unwrap_or(0);
                if bytes == 0 || peer.write_all(&buffer[..bytes]).await.is_err() {
                    break;
                }
            }
        }
    };
    let ended = async {
        tokio::select! {
            ended = serving => ended,
            _ = stopped => Ok(()),
        }
    };
    runtime.block_on(async { timeout(SERVER_LIFETIME, ended).await.unwrap_or(Ok(())) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{template::Template, workload::Workload};

    #[test]
    fn null_server_answers_streams_and_datagrams() {
        for endpoint in ["5000", "udp://:5000"] {
            let workload = Workload::one(Template::literal("hello"));
            let plan = Plan::new(endpoint.parse().unwrap(), "line".parse().unwrap(), workload);
            let floor = floor(&plan).unwrap().unwrap();
            assert!(
                floor > Duration::ZERO && floor < Duration::from_secs(1),
                "{endpoint}: {floor:?}"
            );
        }
    }
}
