//! Workers share the partitions of a topic while orders come in: three join, one leaves, one panics.
//!
//! At the end it is checked that nothing was skipped, that each partition's order was kept, and that
//! only what the worker that panicked had not committed was done twice.
//!
//! `cargo run --release --example consumer_group`

use std::fmt::Display;
use std::panic;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use forebay::{
    Broker, Consumer, GroupDescription, GroupState, RebalanceListener, Record, Topic, TopicConfig,
    TopicPartition,
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const PARTITIONS: u32 = 6;
const ORDERS: u64 = 3000;

fn main() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let broker = Broker::open(dir.path())?;
    let orders = broker.create_topic("orders", TopicConfig::new().partitions(PARTITIONS))?;
    let account = Arc::new(Mutex::new(Account::default()));
    let shop = thread::spawn(move || send_steadily(&orders));

    let first = Worker::join("worker-1", &broker, &account)?;
    settle(&broker, 1)?;
    let second = Worker::join("worker-2", &broker, &account)?;
    settle(&broker, 2)?;
    let third = Worker::join("worker-3", &broker, &account)?;
    settle(&broker, 3)?;
    first.end(End::Leave)?;
    settle(&broker, 2)?;
    second.end(End::Panic)?;
    settle(&broker, 1)?;

    shop.join().map_err(|_| "the shop panicked")??;
    let group = wait_until(&broker, |group| lag(group) == 0)?;
    let (state, members, lag) = (group.state, group.members.len(), lag(&group));
    say(format!("billing: {state:?}, members: {members}, lag: {lag}"));
    third.end(End::Leave)?;
    let account = account.lock().map_err(|_| "somebody panicked while writing the account")?;
    account.check()
}

/// Sends somewhat less than a thousand orders a second.
fn send_steadily(orders: &Topic) -> forebay::Result<()> {
    for number in 0..ORDERS {
        // The key chooses the partition, so what one customer orders keeps its order.
        let customer = format!("customer-{}", number % 100);
        orders.send(Record::new(&format!("order {number}")).key(&customer))?;
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// A consumer on a thread of its own.
struct Worker {
    thread: JoinHandle<forebay::Result<()>>,
    end: Sender<End>,
}

/// How a worker ends.
enum End {
    Leave,
    Panic,
}

impl Worker {
    fn join(name: &str, broker: &Broker, account: &Arc<Mutex<Account>>) -> Result<Self> {
        let account = Arc::clone(account);
        let listener = Listener { account: Arc::clone(&account) };
        let consumer =
            broker.consumer("billing").subscribe(["orders"]).listener(listener).open()?;
        let (end, ends) = mpsc::channel();
        let work = move || work(consumer, &account, &ends);
        Ok(Self { thread: thread::Builder::new().name(name.to_owned()).spawn(work)?, end })
    }

    fn end(self, how: End) -> Result<()> {
        let is_to_panic = matches!(how, End::Panic);
        let _ended_by_itself = self.end.send(how).err();
        match self.thread.join() {
            Ok(left) if !is_to_panic => Ok(left?),
            Err(_panic) if is_to_panic => Ok(()),
            _ => Err("a worker did not end as it was told to".into()),
        }
    }
}

/// What a worker does: poll, work, commit.
fn work(
    mut consumer: Consumer,
    account: &Mutex<Account>,
    end: &Receiver<End>,
) -> forebay::Result<()> {
    say("joined");
    loop {
        let batch = consumer.poll(Duration::from_millis(100))?;
        for record in &batch {
            account.lock().expect("it is whole").done(record.partition(), record.offset());
        }
        thread::sleep(Duration::from_millis(20));
        match end.try_recv() {
            Ok(End::Leave) => {
                say("leaves");
                return consumer.close();
            }
            // The consumer is dropped on the way, and so leaves the group. What is done and not
            // committed is done again by whoever gets its partitions.
            Ok(End::Panic) => {
                account.lock().expect("it is whole").uncommitted = batch.len() as u64;
                say("panics, on purpose");
                // It unwinds as any panic does, and spares us the message.
                panic::resume_unwind(Box::new("on purpose"));
            }
            Err(_) => consumer.commit()?,
        }
    }
}

/// Says which partitions come and go, and commits what is done before they go.
struct Listener {
    account: Arc<Mutex<Account>>,
}

impl RebalanceListener for Listener {
    fn assigned(&mut self, consumer: &mut Consumer, partitions: &[TopicPartition]) {
        say(format!("+ {}", names(partitions)));
        for one in partitions {
            let position = consumer.position(&one.topic, one.partition).expect("it was assigned");
            self.account.lock().expect("it is whole").starts(one.partition, position);
        }
    }

    fn revoked(&mut self, consumer: &mut Consumer, partitions: &[TopicPartition]) {
        say(format!("- {}", names(partitions)));
        if let Err(error) = consumer.commit() {
            say(format!("the last orders will be done again: {error}"));
        }
    }
}

fn names(partitions: &[TopicPartition]) -> String {
    partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// What the workers did, kept apart from the broker, to check it by.
#[derive(Default)]
struct Account {
    /// In each partition the offset to be done next, and how many have been done, once or more.
    next: [u64; PARTITIONS as usize],
    done: [u64; PARTITIONS as usize],
    twice: u64,
    /// How many of them the worker that panicked had not committed.
    uncommitted: u64,
    /// How many came where another was due, or before one that nobody had done.
    misplaced: u64,
}

impl Account {
    fn starts(&mut self, partition: u32, offset: u64) {
        self.next[partition as usize] = offset;
    }

    fn done(&mut self, partition: u32, offset: u64) {
        let at = partition as usize;
        self.misplaced += u64::from(offset != self.next[at] || offset > self.done[at]);
        self.twice += u64::from(offset < self.done[at]);
        self.next[at] = offset + 1;
        self.done[at] = self.done[at].max(offset + 1);
    }

    fn check(&self) -> Result<()> {
        let done: u64 = self.done.iter().sum();
        say(format!("{ORDERS} orders were sent, {done} done, {} of them twice", self.twice));
        check(
            done == ORDERS && self.misplaced == 0,
            "none was skipped, each partition's order was kept",
        )?;
        check(
            self.twice == self.uncommitted,
            "only what was not committed at the panic was done twice",
        )
    }
}

fn check(holds: bool, what: impl Display) -> Result<()> {
    if !holds {
        return Err(format!("this does not hold: {what}").into());
    }
    say(format!("ok: {what}"));
    Ok(())
}

/// Waits until so many members have shared the partitions out, and then for a while.
fn settle(broker: &Broker, members: usize) -> Result<()> {
    let is_settled = |group: &GroupDescription| {
        group.state == GroupState::Stable && group.members.len() == members
    };
    wait_until(broker, is_settled)?;
    thread::sleep(Duration::from_millis(600));
    Ok(())
}

fn wait_until(
    broker: &Broker,
    is_so: impl Fn(&GroupDescription) -> bool,
) -> Result<GroupDescription> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let group = broker.describe_group("billing")?;
        if is_so(&group) {
            return Ok(group);
        }
        if deadline < Instant::now() {
            return Err(format!("waited in vain, the group is {group:?}").into());
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn lag(group: &GroupDescription) -> u64 {
    group.offsets.iter().map(|place| place.lag).sum()
}

fn say(what: impl Display) {
    println!("{:<8}  {what}", thread::current().name().unwrap_or_default());
}
