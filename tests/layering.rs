//! The layout shows the architecture: a file uses only what stands below it, no two files need
//! each other, and `unsafe` is in one module.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The layers from the top. A module may use those of lower layers, and of its own layer as long
/// as there is no circle.
const LAYERS: &[&[&str]] = &[
    &[
        "topic_handle",
        "topic_writer",
        "producer",
        "async_producer",
        "reader_builder",
        "records",
        "consumer",
        "forwarder",
        "group_admin",
        "offset_reset",
        "testing",
        "fuzzing",
    ],
    &[
        "sender",
        "partitioned",
        "sent",
        "reader",
        "fetcher",
        "assigned",
        "start",
        "merge",
        "batch",
        "partitioner",
        "wakefulness",
        "calm",
    ],
    &["builder", "housekeeping"],
    &["inspect"],
    &["broker", "opening", "description", "room_keeper", "maintenance"],
    &["group"],
    &["topic", "topic_metadata", "partition"],
    &["log"],
    &["durability"],
    &["segment", "record", "record_codec"],
    &["quota", "record_quota", "open_segments"],
    &["admission"],
    &["storage"],
    &["background", "relief", "waker", "growing_list", "sync", "epoch"],
    &["damage"],
    &[
        "config",
        "error",
        "on_full",
        "clock",
        "timestamp",
        "topic_partition",
        "unsent",
        "offset_and_metadata",
        "file_access",
        "finding",
        "repair_report",
        "recovery_mode",
    ],
];

fn sources() -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![PathBuf::from("src")];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(&dir)).expect("list") {
            let path = dir.join(entry.expect("entry").file_name());
            if path.extension().is_some_and(|end| end == "rs") {
                let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(&path))
                    .expect("read");
                // What stands in tests may use anything.
                let text =
                    text.split("#[cfg(test)]\nmod tests").next().expect("a first part").to_owned();
                found.insert(path, text);
            } else if !path.ends_with("tests") {
                // What stands in tests may use anything.
                open.push(path);
            }
        }
    }
    assert!(found.len() > 30, "the sources were found");
    found
}

/// `src/log/writer.rs` is `log::writer`, `src/log/mod.rs` is `log`.
fn module(path: &Path) -> String {
    let inner = path.strip_prefix("src").expect("below src").with_extension("");
    let parts: Vec<_> = inner
        .iter()
        .map(|part| part.to_str().expect("text"))
        .filter(|part| *part != "mod")
        .collect();
    parts.join("::")
}

/// The modules each module names with `crate::` or `super::`, outside comments.
fn uses(sources: &BTreeMap<PathBuf, String>) -> BTreeMap<String, BTreeSet<String>> {
    let known: BTreeSet<String> = sources.keys().map(|path| module(path)).collect();
    let mut uses = BTreeMap::new();
    for (path, text) in sources {
        let own = module(path);
        let parent = if path.ends_with("mod.rs") {
            own.clone()
        } else {
            own.rsplit_once("::").map_or("", |(parent, _)| parent).to_owned()
        };
        let code: String = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .collect::<Vec<_>>()
            .join("\n");
        let mut named = BTreeSet::new();
        for (prefix, root) in [("crate::", String::new()), ("super::", parent)] {
            for (at, _) in code.match_indices(prefix) {
                let rest: String = code[at + prefix.len()..]
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || matches!(c, '_' | ':'))
                    .collect();
                named.extend(resolve(&root, rest.trim_end_matches(':'), &known));
            }
        }
        named.remove(&own);
        uses.insert(own, named);
    }
    uses
}

/// The longest module that a path names.
fn resolve(root: &str, path: &str, known: &BTreeSet<String>) -> Option<String> {
    let mut parts: Vec<&str> =
        root.split("::").chain(path.split("::")).filter(|part| !part.is_empty()).collect();
    while !parts.is_empty() {
        let name = parts.join("::");
        if known.contains(&name) && name != "lib" {
            return Some(name);
        }
        parts.pop();
    }
    None
}

fn top(module: &str) -> &str {
    module.split("::").next().expect("a first part")
}

#[test]
fn a_module_uses_only_what_stands_below_it() {
    let sources = sources();
    let layer = |module: &str| {
        let found = LAYERS.iter().position(|layer| layer.contains(&top(module)));
        found.unwrap_or_else(|| panic!("module {module} has no place in the layers"))
    };
    for (module, uses) in uses(&sources).iter().filter(|(module, _)| *module != "lib") {
        for used in uses {
            assert!(layer(module) <= layer(used), "{module} uses {used}, which stands above it");
        }
    }
}

#[test]
fn no_module_needs_itself_through_others() {
    let uses = uses(&sources());
    for start in uses.keys().filter(|module| *module != "lib") {
        let mut open: Vec<&String> = uses[start].iter().collect();
        let mut met = BTreeSet::new();
        while let Some(module) = open.pop() {
            assert_ne!(module, start, "{start} needs itself, through {met:?}");
            if met.insert(module) {
                open.extend(&uses[module]);
            }
        }
    }
}

#[test]
fn unsafe_stands_in_one_module() {
    for (path, text) in sources() {
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let count = code.filter(|line| line.contains("unsafe ")).count();
        let allowed = path.starts_with("src/storage/region");
        assert!(count == 0 || allowed, "{} has {count} lines with unsafe", path.display());
    }
}

#[test]
fn every_file_says_what_it_is() {
    for (path, text) in sources() {
        assert!(text.starts_with("//! "), "{} opens without saying what it is", path.display());
    }
}

#[test]
fn nothing_is_process_wide_and_nothing_asks_the_environment() {
    for (path, text) in sources() {
        for word in ["static ", "thread_local!", "std::env::var", "env::vars"] {
            let found = text.lines().any(|line| {
                line.trim_start()
                    .trim_start_matches("pub(crate) ")
                    .trim_start_matches("pub ")
                    .starts_with(word)
                    || (word.contains("::") && line.contains(word))
            });
            assert!(!found, "{} has {word:?}", path.display());
        }
    }
}
