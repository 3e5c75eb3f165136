//! A chat room on one topic: everybody sees everything, in the same order, and what was said is
//! still there after a crash. Who comes back is shown what they have not read.
//!
//! ```text
//! cargo run --release --example chat_room                              in this terminal
//! cargo run --release --example chat_room -- --serve 127.0.0.1:8080    in browser tabs
//! seq 1 200000 | cargo run --release --example chat_room               a transcript
//! cargo run --release --example chat_room -- --smoke                   check that it works
//! ```
//!
//! Start with `room.rs`: it is all there is of forebay in here.

use std::env;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use moderators::{MODERATORS, moderate_aloud};
use room::{Result, Room};
use serve::{Reach, Web};

#[path = "chat_room/history.rs"]
mod history;
#[path = "chat_room/http.rs"]
mod http;
#[path = "chat_room/moderators.rs"]
mod moderators;
#[path = "chat_room/people.rs"]
mod people;
#[path = "chat_room/room.rs"]
mod room;
#[path = "chat_room/serve.rs"]
mod serve;
#[path = "chat_room/smoke.rs"]
mod smoke;
#[path = "chat_room/smoke_groups.rs"]
mod smoke_groups;
#[path = "chat_room/stream.rs"]
mod stream;
#[path = "chat_room/terminal.rs"]
mod terminal;
#[path = "chat_room/transcript.rs"]
mod transcript;

const USAGE: &str = "\
A chat room on one topic of a forebay broker.

  chat_room [--dir DIR] [--name NAME]       talk in this terminal; lines that are piped in
                                            are said one after the other
  chat_room --serve ADDRESS [--dir DIR]     talk in browser tabs, such as at 127.0.0.1:8080
  chat_room --smoke                         check that it all works, in a temporary directory

  --dir DIR         where the room is kept (target/chat-room)
  --name NAME       who you are (you)
  --allow-remote    let --serve listen to other machines; there are no passwords
  --help            this text";

/// What the command line asks for.
struct Options {
    dir: PathBuf,
    name: String,
    serve: Option<String>,
    reach: Reach,
    task: Task,
}

enum Task {
    Chat,
    Smoke,
    Help,
}

fn main() -> ExitCode {
    let Err(error) = options(env::args_os().skip(1)).and_then(run) else {
        return ExitCode::SUCCESS;
    };
    // Whoever reads our output may have seen enough, as `head` does; that is no failure.
    if error
        .downcast_ref()
        .is_some_and(|error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe)
    {
        return ExitCode::SUCCESS;
    }
    eprintln!("chat_room: {error}");
    ExitCode::FAILURE
}

fn run(options: Options) -> Result<()> {
    match (options.task, options.serve) {
        (Task::Help, _) => Ok(writeln!(io::stdout(), "{USAGE}")?),
        (Task::Smoke, _) => smoke::run(),
        (Task::Chat, Some(address)) => serve(&options.dir, &address, options.reach),
        (Task::Chat, None) => {
            let room = Room::open(&options.dir)?;
            if io::stdin().is_terminal() {
                terminal::run(&room, &options.name)
            } else {
                transcript::run(&room, &options.name, io::stdin().lock())
            }
        }
    }
}

fn serve(dir: &Path, address: &str, reach: Reach) -> Result<()> {
    let room = Room::open(dir)?;
    let web = Arc::new(Web::open(room.clone(), address, reach)?);
    let from = history::replay(&room, 0, 0)?;
    for name in MODERATORS {
        let room = room.clone();
        thread::spawn(move || {
            if let Err(error) = moderate_aloud(&room, name, from, || false) {
                eprintln!("{name} had to leave: {error}");
            }
        });
    }
    // That is no clean close, and needs none: what was acknowledged is found at the next start.
    writeln!(io::stdout(), "the room is open at {}, Ctrl-C ends it", web.url())?;
    web.run();
    Ok(())
}

fn options(mut args: impl Iterator<Item = OsString>) -> Result<Options> {
    let mut options = Options {
        dir: Path::new("target").join("chat-room"),
        name: "you".to_owned(),
        serve: None,
        reach: Reach::Loopback,
        task: Task::Chat,
    };
    while let Some(arg) = args.next() {
        let arg = text(arg)?;
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value, see --help"));
        match arg.as_str() {
            "--dir" => options.dir = value()?.into(),
            "--name" => options.name = text(value()?)?,
            "--serve" => options.serve = Some(text(value()?)?),
            "--allow-remote" => options.reach = Reach::Remote,
            "--smoke" => options.task = Task::Smoke,
            "--help" | "-h" => options.task = Task::Help,
            _ => return Err(format!("{arg} is not known, see --help").into()),
        }
    }
    if room::printable(&options.name).trim().is_empty() {
        return Err("--name is empty".into());
    }
    if options.name.chars().count() > room::LONGEST_NAME_CHARS {
        return Err("--name is too long".into());
    }
    let mut here = people::REGULARS.iter().map(|regular| regular.name).chain(MODERATORS);
    if here.any(|name| name == options.name) {
        return Err(format!("{} is here already, choose another --name", options.name).into());
    }
    Ok(options)
}

fn text(arg: OsString) -> Result<String> {
    arg.into_string().map_err(|arg| format!("{} is not UTF-8", arg.display()).into())
}
