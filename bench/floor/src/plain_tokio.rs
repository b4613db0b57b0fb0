//! The same server in the usual tokio style: one task a connection, which awaits its reads and writes.

use std::net::Ipv4Addr;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;

/// Read buffer size. Each connection has a buffer of its own, as is usual.
const BUFFER: usize = 64 * 1024;

/// Serves on 127.0.0.1 on one thread until the process is killed; prints the bound address first.
pub(crate) fn run(
    port: u16,
    print_address: impl FnOnce(std::net::SocketAddr),
) -> anyhow::Result<()> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async move {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .await
            .with_context(|| format!("cannot listen on port {port}"))?;
        print_address(listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(serve(stream));
        }
    })
}

/// An error means that the peer has gone.
async fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        let received = &mut buffer[..read];
        received.make_ascii_uppercase();
        stream.write_all(received).await?;
    }
}
