//! The store looked at once, before anything is served: what `config check` says, and what ends a start.
//!
//! Owns [`Link::look`], on connections of its own. A store that is not there is no reason not to start; one that is there
//! and cannot be used is.
//! Trap: of a cluster every shard is looked at, since one of them may be set up otherwise than the rest.

use redis::Value;
use tokio::task::JoinSet;

use super::{
    Fault, Link, Route,
    address::Place,
    cluster::{Shard, read_shards, slots},
    dial::{Dialled, Target},
    line::Line,
};

/// How many slots a cluster has.
const SLOTS: usize = 16_384;

impl Link {
    /// What the store is, as `Valkey 9.0.1 at host:6379`. An error names the store too.
    pub async fn look(&self) -> Result<String, Fault> {
        let mut drivers = JoinSet::new();
        let line = match &self.route {
            Route::Single { line, .. } => line,
            Route::Cluster(cluster) => cluster.guide(),
        };
        let mut dialled = self.dial(line.target(), &mut drivers).await?;
        let mut text = format!("{} at {}", dialled.found.server, dialled.place);
        match (&self.route, line.target()) {
            (Route::Single { .. }, Target::Master { name, .. }) => {
                text += &format!(", master {name}")
            }
            (Route::Single { .. }, Target::Server(_) | Target::Node(_)) => {}
            (Route::Cluster(_), _) => {
                let shards = shards(&mut dialled, line).await?;
                for place in &shards {
                    self.dial(&Target::Server(place.clone()), &mut drivers).await?;
                }
                text += &format!(", {} shards", shards.len());
            }
        }
        if dialled.found.forgets {
            text += "; it keeps nothing on its disk (appendonly no, no save)";
        }
        Ok(text)
    }

    async fn dial(&self, target: &Target, drivers: &mut JoinSet<()>) -> Result<Dialled, Fault> {
        let dialled = self.dialler.dial(target, &Default::default(), drivers).await;
        dialled.map_err(|fault| named(target, fault))
    }
}

/// Where the shards are, which must have all slots.
async fn shards(dialled: &mut Dialled, line: &Line) -> Result<Vec<Place>, Fault> {
    let answered = dialled.connection.send_packed_command(&slots()).await;
    let told = match answered {
        Ok(Value::ServerError(error)) => {
            return Err(named(line.target(), Fault::of(&error.into())));
        }
        Ok(value) => read_shards(value, &dialled.place).unwrap_or_default(),
        Err(error) => return Err(named(line.target(), Fault::of(&error))),
    };
    let count = |(first, last, _): &Shard| usize::from(*last).saturating_sub((*first).into()) + 1;
    let served: usize = told.iter().map(count).sum();
    if served < SLOTS {
        let why = format!("only {served} of its {SLOTS} slots are served");
        return Err(named(line.target(), Fault::Unreached(why)));
    }
    let mut places: Vec<Place> = Vec::new();
    for (_, _, place) in told {
        if !places.contains(&place) {
            places.push(place);
        }
    }
    Ok(places)
}

fn named(target: &Target, fault: Fault) -> Fault {
    match fault {
        Fault::Unreached(why) => {
            Fault::Unreached(format!("the store ({target}) cannot be reached: {why}"))
        }
        Fault::Wrong(why) => Fault::Wrong(format!("the store ({target}) cannot be used: {why}")),
    }
}
