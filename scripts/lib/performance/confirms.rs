//! Messages per second that a RabbitMQ confirms, published as fast as it goes. For scripts/performance, compiled by it.
//!
//! `confirms HOST:PORT USER PASSWORD CONNECTIONS UNCONFIRMED SECONDS BYTES` declares a durable quorum queue, publishes
//! persistent messages to it on each connection with so many of them unconfirmed, deletes the queue, and prints how many
//! were confirmed per second. Speaks the part of AMQP 0-9-1 that this needs, so that no client library is measured.

use std::{
    env,
    io::{self, BufReader, Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

const QUEUE: &str = "larkauth-performance-confirms";
const END: u8 = 0xCE;

fn main() -> io::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [address, user, password, connections, unconfirmed, seconds, bytes] = &arguments[..] else {
        let usage = "usage: confirms HOST:PORT USER PASSWORD CONNECTIONS UNCONFIRMED SECONDS BYTES";
        return Err(io::Error::other(usage));
    };
    let number = |text: &String| text.parse::<u64>().map_err(io::Error::other);
    let (unconfirmed, seconds) = (number(unconfirmed)?, Duration::from_secs(number(seconds)?));
    let message = message(usize::try_from(number(bytes)?).map_err(io::Error::other)?);

    let mut owner = Connection::open(address, user, password)?;
    owner.declare()?;
    let mut publishers = Vec::new();
    for _ in 0..number(connections)? {
        let mut connection = Connection::open(address, user, password)?;
        connection.call(85, 10, &[0])?;
        let message = message.clone();
        publishers.push(thread::spawn(move || connection.publish(&message, unconfirmed, seconds)));
    }
    let mut rate = 0.0;
    for publisher in publishers {
        rate += publisher.join().map_err(|_| io::Error::other("a publisher panicked"))??;
    }
    owner.call(50, 40, &[&[0, 0][..], &short(QUEUE), &[0]].concat())?;
    println!("{rate:.0}");
    Ok(())
}

struct Connection {
    reader: BufReader<TcpStream>,
    writer: TcpStream,
}

impl Connection {
    fn open(address: &str, user: &str, password: &str) -> io::Result<Self> {
        let writer = TcpStream::connect(address)?;
        writer.set_nodelay(true)?;
        writer.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut connection = Self { reader: BufReader::new(writer.try_clone()?), writer };
        connection.writer.write_all(b"AMQP\x00\x00\x09\x01")?;
        connection.method()?;
        let response = format!("\0{user}\0{password}");
        let start_ok = [long(&[]), short("PLAIN"), long(response.as_bytes()), short("en_US")].concat();
        let tune = connection.send_and_read(0, 10, 11, &start_ok)?;
        // The limits of the broker, and no heartbeats.
        let limits = tune.get(4..10).ok_or_else(|| io::Error::other("a short connection.tune"))?;
        connection.send(0, 10, 31, &[limits, &[0, 0]].concat())?;
        connection.send_and_read(0, 10, 40, &[short("/"), short(""), vec![0]].concat())?;
        connection.call(20, 10, &short(""))?;
        Ok(connection)
    }

    fn declare(&mut self) -> io::Result<()> {
        let kind = [short("x-queue-type"), vec![b'S'], long(b"quorum")].concat();
        let durable = 2;
        self.call(50, 10, &[vec![0, 0], short(QUEUE), vec![durable], long(&kind)].concat())
    }

    /// Calls a method on the channel and reads its answer.
    fn call(&mut self, class: u16, method: u16, arguments: &[u8]) -> io::Result<()> {
        self.send_and_read(1, class, method, arguments).map(|_| ())
    }

    fn send_and_read(
        &mut self,
        channel: u16,
        class: u16,
        method: u16,
        arguments: &[u8],
    ) -> io::Result<Vec<u8>> {
        self.send(channel, class, method, arguments)?;
        let answer = self.method()?;
        // A closed connection or channel is the refusal.
        if answer.starts_with(&[0, 10, 0, 50]) || answer.starts_with(&[0, 20, 0, 40]) {
            return Err(io::Error::other(format!("refused: {}", String::from_utf8_lossy(&answer[7..]))));
        }
        Ok(answer)
    }

    fn send(&mut self, channel: u16, class: u16, method: u16, arguments: &[u8]) -> io::Result<()> {
        let payload = [&class.to_be_bytes(), &method.to_be_bytes(), arguments].concat();
        self.writer.write_all(&frame(1, channel, &payload))
    }

    /// Reads the next method frame.
    fn method(&mut self) -> io::Result<Vec<u8>> {
        loop {
            let mut head = [0; 7];
            self.reader.read_exact(&mut head)?;
            let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
            let mut payload = vec![0; size + 1];
            self.reader.read_exact(&mut payload)?;
            payload.truncate(size);
            if head[0] == 1 {
                return Ok(payload);
            }
        }
    }

    /// Returns confirmed messages per second.
    fn publish(&mut self, message: &[u8], unconfirmed: u64, length: Duration) -> io::Result<f64> {
        let (start, mut sent, mut confirmed) = (Instant::now(), 0, 0);
        while start.elapsed() < length {
            let room = unconfirmed - (sent - confirmed);
            if room > 0 {
                self.writer.write_all(&message.repeat(room as usize))?;
                sent += room;
            }
            let method = self.method()?;
            let [0, 60, 0, 80, tag @ .., multiple] = &method[..] else {
                return Err(io::Error::other("a message was not confirmed"));
            };
            let tag = u64::from_be_bytes(tag.try_into().map_err(io::Error::other)?);
            confirmed = if multiple & 1 == 1 { tag } else { confirmed + 1 };
        }
        Ok(confirmed as f64 / start.elapsed().as_secs_f64())
    }
}

/// The frames of one persistent message.
fn message(bytes: usize) -> Vec<u8> {
    let publish = [vec![0, 60, 0, 40, 0, 0], short(""), short(QUEUE), vec![1]].concat();
    let with_delivery_mode = 0x1000_u16;
    let header =
        [&[0, 60, 0, 0][..], &(bytes as u64).to_be_bytes(), &with_delivery_mode.to_be_bytes(), &[2]].concat();
    [frame(1, 1, &publish), frame(2, 1, &header), frame(3, 1, &vec![b'x'; bytes])].concat()
}

fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let size = payload.len() as u32;
    [&[kind][..], &channel.to_be_bytes(), &size.to_be_bytes(), payload, &[END]].concat()
}

fn short(text: &str) -> Vec<u8> {
    [&[text.len() as u8], text.as_bytes()].concat()
}

fn long(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes(), bytes].concat()
}
