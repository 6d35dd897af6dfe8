//! `hookyard health`: asks `/readyz` of a process on this machine, for container health checks in images without curl.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;

/// Which process.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Address of the process's probes, as in `ops.listen`.
    #[arg(long, default_value = "127.0.0.1:8081", env = "HOOKYARD__OPS__LISTEN")]
    addr: SocketAddr,
}

const PATIENCE: Duration = Duration::from_secs(3);

/// Prints what the process says; exit code 0 when it is ready.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    // A process that listens on every address is asked on the loopback one.
    let mut addr = arguments.addr;
    if addr.ip().is_unspecified() {
        addr.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    let mut stream =
        TcpStream::connect_timeout(&addr, PATIENCE).with_context(|| format!("nobody answers at {addr}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream
        .write_all(format!("GET /readyz HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.take(64 * 1024).read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    println!("{body}");
    let ready = head.split_whitespace().nth(1) == Some("200");
    Ok(if ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
