//! The plan for a directory: what is to be done about each topic, and about what groups have committed.

use super::directory::Directory;
use super::partition_plan::plan_partition;
use super::plan::Plan;
use super::step::Step;
use super::topic_check::TopicCheck;
use crate::config::TopicConfig;
use crate::error::{Error, Result};
use crate::finding::{Finding, FindingKind};
use crate::repair_report::RepairAction;
use crate::topic_metadata::{METADATA_FILE, Metadata};

/// Reads a directory and makes a plan for it. What is of a later version is not touched, nor anything
/// else then.
pub(super) fn plan_directory(directory: &Directory<'_>) -> Result<Plan> {
    let mut plan = Plan::default();
    for name in directory.topics()?.0 {
        if let Some(topic) = directory.topic(&name)? {
            add_topic(&mut plan, directory, &topic)?;
        }
    }
    add_offsets(&mut plan, directory)?;
    Ok(plan)
}

fn add_topic(plan: &mut Plan, directory: &Directory<'_>, topic: &TopicCheck) -> Result<()> {
    refuse_later(&topic.findings)?;
    let Some(id) = topic.id.filter(|_| topic.partitions > 0) else {
        put_topic_aside(plan, directory, topic);
        return Ok(());
    };
    if topic.metadata_is_wrong {
        rebuild_metadata(plan, topic, id);
    }
    for number in &topic.missing {
        let path = topic.dir.join(number.to_string());
        let what = "the partition was missing, and is made anew without its records";
        plan.tell(RepairAction::new(&path, what));
        plan.steps.push(Step::MakeDir(path));
    }
    for (number, check) in &topic.checks {
        refuse_later(&check.findings)?;
        plan_partition(plan, &topic.name, *number, id, check);
    }
    Ok(())
}

/// Nothing says which topic this is.
fn put_topic_aside(plan: &mut Plan, directory: &Directory<'_>, topic: &TopicCheck) {
    let what = "nothing says which topic it is; all of it goes to the quarantine";
    plan.tell(RepairAction::new(&topic.dir, what));
    plan.steps.push(Step::Keep(topic.dir.clone()));
    let topics = directory.topics_dir();
    plan.steps.push(Step::RemoveTopic { topics, dir: topic.dir.clone() });
}

fn rebuild_metadata(plan: &mut Plan, topic: &TopicCheck, id: u64) {
    let path = topic.dir.join(METADATA_FILE);
    let count = topic.partitions;
    let what = format!(
        "it is made anew with {count} partitions and the identity in the segments; its settings are lost and \
         are the default ones"
    );
    plan.tell(RepairAction::new(&path, what));
    plan.steps.push(Step::Keep(path));
    let metadata = Metadata { id, config: TopicConfig::new().partitions(count) };
    plan.steps.push(Step::WriteMetadata { dir: topic.dir.clone(), metadata });
}

fn add_offsets(plan: &mut Plan, directory: &Directory<'_>) -> Result<()> {
    let (check, dir) = (directory.offsets()?, directory.offsets_dir());
    refuse_later(&check.findings)?;
    for path in &check.damaged {
        let what = "it goes to the quarantine";
        plan.tell(RepairAction::new(path, what));
        plan.steps.push(Step::Keep(path.clone()));
    }
    let damaged = check.damaged.clone();
    if check.is_to_be_rewritten {
        let what = format!(
            "what {} groups have committed is written anew, as far as it could be read",
            check.groups
        );
        plan.tell(RepairAction::new(&dir, what));
        let (check, dir) = (Box::new(check), dir.clone());
        plan.steps.push(Step::RewriteOffsets { dir, check });
    }
    if !damaged.is_empty() {
        plan.steps.extend(damaged.into_iter().map(Step::Remove));
        plan.steps.push(Step::SyncDir(dir));
    }
    Ok(())
}

/// The error for a file of a later version: what it says is not known, so it cannot be repaired.
fn refuse_later(findings: &[Finding]) -> Result<()> {
    let later = findings.iter().find(|finding| finding.kind == FindingKind::UnsupportedVersion);
    match later {
        None => Ok(()),
        Some(finding) => Err(Error::corrupt(
            &finding.path,
            finding.position,
            format!("it is of a later version and cannot be repaired: {}", finding.detail),
        )),
    }
}
