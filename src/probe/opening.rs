//! How a session is opened in the revisions that have them.
//!
//! Owns the negotiation: the server answers `initialize` with the revision that was asked for or with another one, and the
//! probe goes on with that if it can speak it, as a client is to do (2025-11-25, basic/lifecycle, "Version Negotiation").
//! Trap: a server need not give an id. Then its clients have no sessions, which is no failure of `initialize`.

use http::HeaderValue;

use super::{
    exchange::{Answered, Channel, shortened},
    message,
    verdict::{Cause, Defect},
};
use crate::wire::{Era, ProtocolVersion, SESSION_HEADER};

/// Sends `initialize`. What follows on the channel is in the revision that was agreed on.
pub(super) async fn initialize(
    channel: &mut Channel<'_>,
) -> Result<(Answered, Option<HeaderValue>), Defect> {
    let plan = channel.shared.plan;
    let wanted = plan.revision(channel.era);
    let answered = channel.ask("initialize", message::initialize(wanted), None).await?;
    let offered = answered.result["protocolVersion"].as_str().unwrap_or_default();
    let known =
        offered.parse().ok().filter(|known: &ProtocolVersion| known.era() == Era::Sessioned);
    let insists = plan.asked.revision.is_some();
    match known {
        Some(revision) if revision == wanted => channel.revision = known,
        Some(_) if !insists => {
            channel.revision = known;
            channel.shared.tally().evidence.offered = known;
        }
        _ => {
            let offered = shortened(offered);
            let detail = format!("asked for revision {wanted}, was offered {offered:?}");
            return Err(Defect::Failed(Cause::Revision, detail));
        }
    }
    let id = answered.answer.headers.get(SESSION_HEADER).cloned();
    Ok((answered, id))
}
