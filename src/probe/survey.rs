//! What one session finds out for all others: what the tools are called, and whether progress arrives.
//!
//! Owns that it is found out once for each target and era, by the first session that gets so far.
//! Trap: where the first one finds no tools, the next one tries again, so each reports its own failure.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::{
    exchange::{Channel, shortened},
    names::{Names, TICKS, Unfound},
    ticks,
    verdict::{Cause, Defect},
};

/// Pages of a list.
const MAX_PAGES: usize = 100;

/// Learns the names of the tools.
pub(super) async fn learn_names(channel: &Channel<'_>) -> Result<(), Defect> {
    let names = channel.names.get_or_try_init(async || {
        let prefix = channel.shared.plan.asked.tool_prefix.as_deref();
        let listed = list(channel).await?;
        let names = Names::find(&listed, channel.era, prefix);
        let names = names.map_err(|unfound| explain(unfound, &listed))?;
        let renamed = names.renamed().map(|(tool, name)| (tool, shortened(name)));
        let evidence = &mut channel.shared.tally().evidence;
        evidence.renamed = evidence.renamed.take().or(renamed);
        evidence.without_ticks |= names.get(TICKS).is_none();
        Ok(names)
    });
    names.await.map(|_| ())
}

/// Whether this session is the one that sees whether progress arrives.
pub(super) fn is_to_watch(channel: &Channel<'_>) -> bool {
    let offered = channel.names.get().is_some_and(|names| names.get(TICKS).is_some());
    let watched = &channel.shared.watched[channel.target.number][channel.era as usize];
    offered && !watched.swap(true, Ordering::Relaxed)
}

/// Sees whether progress arrives. Returns how many calls it took.
pub(super) async fn watch_progress(channel: &Channel<'_>) -> Result<u64, Defect> {
    let (seen, calls) = ticks::watch(channel).await?;
    channel.shared.tally().evidence.progress.push(seen);
    Ok(calls)
}

async fn list(channel: &Channel<'_>) -> Result<Vec<String>, Defect> {
    let mut listed = Vec::new();
    let mut params = json!({});
    for _ in 0..MAX_PAGES {
        let answered = channel.ask("tools/list", params, None).await?;
        let tools = answered.result["tools"].as_array().map(Vec::as_slice).unwrap_or_default();
        let names = tools.iter().filter_map(|tool| tool["name"].as_str());
        listed.extend(names.map(str::to_owned));
        params = match &answered.result["nextCursor"] {
            Value::String(cursor) => json!({ "cursor": cursor }),
            _ => break,
        };
    }
    Ok(listed)
}

fn explain(unfound: Unfound, listed: &[String]) -> Defect {
    match unfound {
        Unfound::Missing { lacks, instead } => {
            let lacks = lacks.join(", ");
            let there = match instead.is_empty() {
                true => format!("among the {} tools: {}", listed.len(), listed.join(", ")),
                false => format!("after that prefix, but after {}", instead.join(" and ")),
            };
            let detail = shortened(&format!("there is no {lacks} {there}"));
            Defect::Failed(Cause::NoTool, detail)
        }
        Unfound::Ambiguous(prefixes) => {
            let prefixes = shortened(&prefixes.join(" or "));
            let detail = format!("the tools are there several times: --tool-prefix {prefixes}");
            Defect::Failed(Cause::AmbiguousTool, detail)
        }
    }
}
