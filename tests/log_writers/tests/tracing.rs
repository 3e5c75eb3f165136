//! `tracing-subscriber`, which makes a writer for each event.

use std::time::Instant;

use forebay::{Broker, Framing, TopicConfig, WhenRefused};
use forebay_log_writers::{EVENTS, THREADS, check, log_from_threads, values};

fn in_memory() -> (Broker, forebay::Topic) {
    let broker = Broker::in_memory().expect("open");
    let topic = broker.create_topic("log", TopicConfig::new()).expect("create");
    (broker, topic)
}

#[test]
fn each_event_is_a_record() {
    let (broker, topic) = in_memory();
    let writer = topic.writer().when_refused(WhenRefused::Drop).key("host-1");
    let made = writer.clone();
    let subscriber =
        tracing_subscriber::fmt().with_ansi(false).with_writer(move || made.clone()).finish();
    let dispatch = tracing::Dispatch::new(subscriber);
    let before = Instant::now();
    log_from_threads(|name, number| {
        tracing::dispatcher::with_default(&dispatch, || {
            let span = tracing::info_span!("request", name);
            let _inside = span.enter();
            tracing::info!(last = "the end", "event={name}/{number}. {}", "x".repeat(number % 200));
        });
    });
    let took = before.elapsed();
    println!("{:.1} µs an event", took.as_secs_f64() * 1e6 / (THREADS * EVENTS) as f64);
    assert_eq!(writer.dropped(), 0);
    check(&values(&broker, "log"), "last=\"the end\"");
}

#[test]
fn an_event_of_several_lines_is_a_record_of_its_own_if_writes_are() {
    let (broker, topic) = in_memory();
    let writer = topic.writer().framing(Framing::Writes);
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .without_time()
        .with_writer(move || writer.clone())
        .finish();
    let dispatch = tracing::Dispatch::new(subscriber);
    log_from_threads(|name, number| {
        tracing::dispatcher::with_default(&dispatch, || {
            tracing::error!("event={name}/{number}. panicked\n  at main\n  at start");
        });
    });
    let values = values(&broker, "log");
    assert!(values.iter().all(|value| value.lines().count() > 1), "{:?}", values.first());
    check(&values, "at start\n");
}
