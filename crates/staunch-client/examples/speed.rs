//! How fast the client is by itself: publishes into a socket that only reads, and deliveries
//! from a socket that only writes.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    time::{Duration, Instant},
};

use staunch_amqp_codec::{
    content::encode_content,
    methods::{
        BasicConsumeOk, BasicDeliver, ChannelOpenOk, ConnectionOpenOk, ConnectionStart,
        ConnectionTune, Method,
    },
    wire::ShortStr,
};
use staunch_client::{ConnectOptions, Connection, Incoming};
use staunch_types::properties::PropertyList;

const COUNT: u32 = 10_000_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let server = std::thread::spawn(move || {
        for stream in listener.incoming().take(1) {
            serve(stream.expect("a client connects"));
        }
    });
    let options = ConnectOptions {
        port,
        ..ConnectOptions::default()
    };
    let mut connection = Connection::open(&options)?;
    let channel = connection.open_channel()?;
    let properties = PropertyList::default();
    let template = connection.publish_template(channel, "", "bench", false, &properties)?;
    let (start, cpu) = (Instant::now(), thread_cpu());
    for _ in 0..COUNT {
        connection.publish_with(&template, &[7; 16])?;
    }
    connection.flush()?;
    report("publish", start.elapsed(), thread_cpu().saturating_sub(cpu));

    connection.consume(channel, "bench", true)?;
    let (start, cpu) = (Instant::now(), thread_cpu());
    let mut received = 0;
    while received < COUNT {
        if let Some(Incoming::Delivery(delivery)) = connection.next(None)? {
            received += u32::from(delivery.body.len() == 16);
        }
    }
    report("deliver", start.elapsed(), thread_cpu().saturating_sub(cpu));
    drop(connection);
    server.join().expect("the server does not panic");
    Ok(())
}

fn thread_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = stat.split(' ').next().and_then(|field| field.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}

#[expect(clippy::print_stdout, reason = "the report is what the example is for")]
fn report(what: &str, wall: Duration, cpu: Duration) {
    let rate = |time: Duration| f64::from(COUNT) / time.as_secs_f64() / 1e6;
    println!(
        "{what}: {:.2} M/s wall, {:.2} M/s per core",
        rate(wall),
        rate(cpu)
    );
}

fn serve(mut stream: TcpStream) {
    let send = |stream: &mut TcpStream, channel, method: Method<'_>| {
        let mut out = Vec::new();
        method.encode_frame(channel, &mut out);
        stream.write_all(&out).expect("the client reads");
    };
    let mut input = vec![0; 1 << 20];
    let mut read = |stream: &mut TcpStream| stream.read(&mut input).unwrap_or(0);
    read(&mut stream);
    send(
        &mut stream,
        0,
        Method::ConnectionStart(ConnectionStart::default()),
    );
    read(&mut stream);
    let tune = ConnectionTune {
        channel_max: 10,
        frame_max: 131_072,
        heartbeat: 0,
    };
    send(&mut stream, 0, Method::ConnectionTune(tune));
    read(&mut stream);
    send(
        &mut stream,
        0,
        Method::ConnectionOpenOk(ConnectionOpenOk::default()),
    );
    read(&mut stream);
    send(
        &mut stream,
        1,
        Method::ChannelOpenOk(ChannelOpenOk::default()),
    );
    // method 22 + "bench" 5, header 22, body 24 = publishes of 16 bytes to "bench"
    let publish_size: u64 = (7 + 9 + 5 + 1) + (7 + 14 + 1) + (7 + 16 + 1);
    let mut left = publish_size * u64::from(COUNT);
    while left > 0 {
        left = left.saturating_sub(read(&mut stream) as u64);
    }
    read(&mut stream);
    let consumer_tag = ShortStr::from_static("amq.ctag-bench-of-usual-length");
    send(
        &mut stream,
        1,
        Method::BasicConsumeOk(BasicConsumeOk { consumer_tag }),
    );
    let mut out = Vec::new();
    for delivery_tag in 1..=u64::from(COUNT) {
        let routing_key = ShortStr::from_static("bench");
        let deliver = BasicDeliver {
            consumer_tag,
            delivery_tag,
            routing_key,
            ..BasicDeliver::default()
        };
        deliver.encode_frame(1, &mut out);
        encode_content(&mut out, 1, &[0, 0], &[7; 16], 131_072);
        if out.len() > 1 << 17 {
            stream.write_all(&out).expect("the client reads");
            out.clear();
        }
    }
    stream.write_all(&out).expect("the client reads");
    read(&mut stream);
}
