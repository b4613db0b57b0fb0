//! An echo over TLS as most would write it on tokio-rustls, for bench/tls.py to compare with: one thread, a task for each
//! connection, which reads and writes back. rustls and its cryptography are those of echoic.
//!
//! `cargo run --release -p parts --bin tls_echo CERTIFICATE KEY`
#![allow(clippy::print_stdout, reason = "the address is the payload")]

use std::{env, error::Error, io, net::Ipv4Addr, sync::Arc};

use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Builder,
};
use tokio_rustls::TlsAcceptor;

/// Read buffer size. Each connection has a buffer of its own, as is usual.
const BUFFER: usize = 64 << 10;

/// Serves on 127.0.0.1 until the process is killed; prints the bound address first.
fn main() -> Result<(), Box<dyn Error>> {
    let files: Vec<String> = env::args().skip(1).collect();
    let [certificate, key] = &files[..] else {
        return Err("usage: tls_echo CERTIFICATE KEY".into());
    };
    let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<_, _>>()?;
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(key)?)?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let runtime = Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async move {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        println!("listening on {}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(serve(acceptor.clone(), stream));
        }
    })
}

/// An error means that the peer has gone.
async fn serve(acceptor: TlsAcceptor, stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = acceptor.accept(stream).await?;
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return stream.shutdown().await;
        }
        stream.write_all(&buffer[..read]).await?;
        stream.flush().await?;
    }
}
