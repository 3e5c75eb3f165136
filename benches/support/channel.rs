//! The channels that stand beside forebay: two of crossbeam and the one of the standard library, under
//! one name each for sending and receiving, so that a bench is written once.

use std::sync::mpsc;

/// How many messages a bounded channel holds.
const CAPACITY: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Bounded,
    Unbounded,
    Std,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Bounded, Self::Unbounded, Self::Std];
    /// Those that take everything without anybody receiving.
    pub const ENDLESS: [Self; 2] = [Self::Unbounded, Self::Std];

    pub fn name(self) -> &'static str {
        match self {
            Self::Bounded => "crossbeam bounded(1024)",
            Self::Unbounded => "crossbeam unbounded",
            Self::Std => "std mpsc",
        }
    }

    pub fn open<T>(self) -> (Sender<T>, Receiver<T>) {
        match self {
            Self::Bounded => of_crossbeam(crossbeam_channel::bounded(CAPACITY)),
            Self::Unbounded => of_crossbeam(crossbeam_channel::unbounded()),
            Self::Std => {
                let (sender, receiver) = mpsc::channel();
                (Sender::Std(sender), Receiver::Std(receiver))
            }
        }
    }
}

fn of_crossbeam<T>(
    (sender, receiver): (crossbeam_channel::Sender<T>, crossbeam_channel::Receiver<T>),
) -> (Sender<T>, Receiver<T>) {
    (Sender::Crossbeam(sender), Receiver::Crossbeam(receiver))
}

pub enum Sender<T> {
    Crossbeam(crossbeam_channel::Sender<T>),
    Std(mpsc::Sender<T>),
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Crossbeam(sender) => Self::Crossbeam(sender.clone()),
            Self::Std(sender) => Self::Std(sender.clone()),
        }
    }
}

impl<T> Sender<T> {
    pub fn send(&self, message: T) {
        let is_sent = match self {
            Self::Crossbeam(sender) => sender.send(message).is_ok(),
            Self::Std(sender) => sender.send(message).is_ok(),
        };
        assert!(is_sent, "somebody receives");
    }
}

pub enum Receiver<T> {
    Crossbeam(crossbeam_channel::Receiver<T>),
    Std(mpsc::Receiver<T>),
}

impl<T> Receiver<T> {
    /// Waits for the next; nothing, if all senders are gone.
    pub fn recv(&self) -> Option<T> {
        match self {
            Self::Crossbeam(receiver) => receiver.recv().ok(),
            Self::Std(receiver) => receiver.recv().ok(),
        }
    }

    /// The next, if it is there.
    pub fn try_recv(&self) -> Option<T> {
        match self {
            Self::Crossbeam(receiver) => receiver.try_recv().ok(),
            Self::Std(receiver) => receiver.try_recv().ok(),
        }
    }
}
