//! How fast four producers send at once, beside channels with four senders in the same run.
//!
//! `cargo bench --bench producers`, or `-- one` and `-- four` for one partition or four alone. With one
//! partition all send to the same; with four each has its own. A table is until all is written, the next
//! until all was taken by one thread that takes while they send. In both every byte is checked, and that
//! each producer's records come in the order it sent them: while the clock runs where there is somebody
//! who takes, afterwards where there is not.
#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

mod support;

use std::time::Duration;

use forebay::{Broker, Record, TopicConfig};
use support::channel::{Kind, Receiver, Sender};
use support::{Checker, Options, Payload, Row, SIZE, Taker, at_once, measure, scratch};

const ROUNDS: usize = 5;
const PRODUCERS: u64 = 4;

/// When the clock stops.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    Written,
    Taken,
}

fn main() {
    let options = Options::parse();
    for (part, partitions, title) in
        [("one", 1, "one partition"), ("four", 4, "four partitions, one each")]
    {
        if options.on(part) {
            table(&options, partitions, title, Until::Written);
            table(&options, partitions, title, Until::Taken);
        }
    }
}

fn table(options: &Options, partitions: u32, title: &str, until: Until) {
    let each = options.scaled(250_000);
    let volume = (each * PRODUCERS, SIZE);
    let dir = scratch();
    let broker = Broker::open(dir.path()).expect("open");
    let (kinds, end) = match until {
        // A bounded channel takes all only if somebody receives.
        Until::Written => (&Kind::ENDLESS[..], "all is written"),
        Until::Taken => (&Kind::ALL[..], "all is taken"),
    };
    let mut run = 0;
    let mut rows: Vec<Row<'_>> = Vec::new();
    for &kind in kinds {
        let name = match partitions {
            1 => format!("{}, four senders, {end}", kind.name()),
            _ => format!("four times {}, {end}", kind.name()),
        };
        rows.push(Row::new("W6", name, volume, move || channels(kind, partitions, each, until)));
    }
    let all: Vec<usize> = (0..rows.len()).collect();
    let forebay = || {
        run += 1;
        let name = format!("topic-{run}");
        let time = forebay(&broker, &name, partitions, each, until);
        broker.delete_topic(&name).expect("delete");
        time
    };
    let row = Row::new("W6", format!("forebay, {title}, {end}"), volume, forebay);
    rows.push(row.against("best channel", &all).target(1.0));
    let title = format!("W6: four producers, {title}, until {end}, 100 B");
    measure(options, &title, ROUNDS, &mut rows);
}

fn forebay(broker: &Broker, name: &str, partitions: u32, each: u64, until: Until) -> Duration {
    let config = TopicConfig::new().partitions(partitions);
    let topic = broker.create_topic(name, config).expect("create");
    let producers = (0..PRODUCERS).map(|producer| {
        let topic = topic.clone();
        move || {
            let mut payload = Payload::new(producer);
            let partition = (producer % u64::from(partitions)) as u32;
            for number in 0..each {
                let record = Record::new(payload.number(number)).partition(partition);
                topic.send(record).expect("send");
            }
        }
    });
    let mut taker = Taker::reader(broker, name);
    let mut checker = Checker::new(PRODUCERS);
    let count = each * PRODUCERS;
    let time = at_once(producers.collect(), || {
        if until == Until::Taken {
            taker.take(&mut checker, count);
        }
    });
    taker.take(&mut checker, count);
    checker.finish(each);
    assert!(taker.look().is_empty(), "nothing else is there");
    time
}

type Message = Box<[u8]>;

fn channels(kind: Kind, partitions: u32, each: u64, until: Until) -> Duration {
    let (senders, receivers): (Vec<Sender<Message>>, Vec<Receiver<Message>>) =
        (0..partitions).map(|_| kind.open()).unzip();
    let producers = (0..PRODUCERS).map(|producer| {
        let sender = senders[producer as usize % senders.len()].clone();
        move || {
            let mut payload = Payload::new(producer);
            for number in 0..each {
                sender.send(Box::from(&payload.number(number)[..]));
            }
        }
    });
    let producers = producers.collect();
    drop(senders);
    let mut checker = Checker::new(PRODUCERS);
    let count = each * PRODUCERS;
    let time = at_once(producers, || {
        if until == Until::Taken {
            take_from(&receivers, &mut checker, count);
        }
    });
    take_from(&receivers, &mut checker, count);
    checker.finish(each);
    assert!(receivers.iter().all(|receiver| receiver.recv().is_none()), "nothing else is there");
    time
}

/// How many a thread takes from one channel before it looks at the next.
const TURN: usize = 1000;

fn take_from(receivers: &[Receiver<Message>], checker: &mut Checker, count: u64) {
    while checker.count() < count {
        let before = checker.count();
        for receiver in receivers {
            for value in std::iter::from_fn(|| receiver.try_recv()).take(TURN) {
                checker.check(&value);
            }
        }
        if checker.count() > before {
            continue;
        }
        match receivers {
            // With one there is nothing else to look at meanwhile.
            [only] => checker.check(&only.recv().expect("there is more to come")),
            _ => std::thread::yield_now(),
        }
    }
}
