//! Requests at a fixed rate over some connections, and how long each took. For scripts/performance, compiled by it.
//!
//! `paced HOST:PORT CONNECTIONS REQUESTS-PER-SECOND SECONDS <REQUEST` sends the request that it reads from standard input and
//! prints `{"sent":…,"failed":…,"p50_us":…,"p99_us":…,"max_us":…}`. A time begins when the request was due, not when it was
//! sent, so a server that stops for a while does not hide the requests that it kept waiting.

use std::{
    env,
    io::{self, Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

fn main() -> io::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [address, connections, rate, seconds] = &arguments[..] else {
        return Err(io::Error::other(
            "usage: paced HOST:PORT CONNECTIONS REQUESTS-PER-SECOND SECONDS <REQUEST",
        ));
    };
    let number = |text: &String| text.parse::<f64>().map_err(io::Error::other);
    let (connections, rate, seconds) = (number(connections)?, number(rate)?, number(seconds)?);
    let mut request = Vec::new();
    io::stdin().read_to_end(&mut request)?;

    let start = Instant::now() + Duration::from_millis(100);
    let interval = Duration::from_secs_f64(connections / rate);
    let workers: Vec<_> = (0..connections as u32)
        .map(|n| {
            let (address, request) = (address.clone(), request.clone());
            let first = start + interval.mul_f64(f64::from(n) / connections);
            thread::spawn(move || send(&address, &request, first, interval, Duration::from_secs_f64(seconds)))
        })
        .collect();
    let (mut times, mut failed) = (Vec::new(), 0);
    for worker in workers {
        let (some, failures) = worker.join().map_err(|_| io::Error::other("a worker panicked"))??;
        times.extend(some);
        failed += failures;
    }
    times.sort_unstable();
    let at = |share: f64| {
        times.get((share * (times.len().max(1) - 1) as f64) as usize).map_or(0, Duration::as_micros)
    };
    println!(
        "{{\"sent\":{},\"failed\":{failed},\"p50_us\":{},\"p99_us\":{},\"max_us\":{}}}",
        times.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
    Ok(())
}

fn send(
    address: &str,
    request: &[u8],
    first: Instant,
    interval: Duration,
    length: Duration,
) -> io::Result<(Vec<Duration>, u32)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let (mut times, mut failed, mut buffer, mut due) = (Vec::new(), 0, vec![0; 64 << 10], first);
    while due < first + length {
        if let Some(wait) = due.checked_duration_since(Instant::now()) {
            thread::sleep(wait);
        }
        stream.write_all(request)?;
        if !answered(&mut stream, &mut buffer)? {
            failed += 1;
        }
        times.push(due.elapsed());
        due += interval;
    }
    Ok((times, failed))
}

/// Reads one answer. Returns whether its status is 200.
fn answered(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<bool> {
    let mut length = 0;
    loop {
        let read = stream.read(&mut buffer[length..])?;
        if read == 0 {
            return Err(io::Error::other("the server closed the connection"));
        }
        length += read;
        let Some(end) = buffer[..length].windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
        let body = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let body: usize = body.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        if length >= end + 4 + body {
            return Ok(head.starts_with("http/1.1 200"));
        }
    }
}
