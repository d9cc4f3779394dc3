//! With which key `requestState` is sealed, and by which clock it lapses.
//!
//! Owns [`Seals`]. A process alone seals with a key of its own and by its own clock. Replicas that share a store
//! share a key that is kept there, whichever of them came first, and go by the store's clock, so what one has sealed
//! any of them opens.
//! Trap: a store may lose the key. Replicas that have it put it back when they reach the store again, so that nothing
//! is refused which was sealed before; only where none of them is left is there another key.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tokio::time::timeout;

use crate::{
    clock::Clock,
    link::{Call, Link, Lost, scripts},
    wire::{BadState, Binding, Sealer},
};

scripts! { "clock.lua":
    AGREE: repeated, "agree.lua";
}

/// How often the store is asked for the key that all have: seldom, and soon where it did not say.
const WHEN_KNOWN: Duration = Duration::from_secs(60);
const WHEN_UNKNOWN: Duration = Duration::from_secs(1);

/// What `requestState` is sealed with.
pub(crate) enum Seals {
    /// Nobody else can open it.
    Own { sealer: Sealer, clock: Clock },
    /// All replicas of a store can.
    Shared(Shared),
}

/// See [`Seals::Shared`].
pub(crate) struct Shared {
    link: Arc<Link>,
    /// For the case that there is no key yet.
    drawn: Sealer,
    agreed: Mutex<Option<Sealer>>,
}

impl fmt::Debug for Seals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Own { .. } => "Seals::Own",
            Self::Shared(_) => "Seals::Shared",
        })
    }
}

/// Why a state was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotOpened {
    Refused(BadState),
    /// The key is not known yet.
    Unavailable,
}

impl Seals {
    pub(super) fn build(link: Option<&Arc<Link>>, clock: Clock) -> Result<Self, getrandom::Error> {
        let sealer = Sealer::draw()?;
        Ok(match link {
            None => Self::Own { sealer, clock },
            Some(link) => {
                let (link, agreed) = (Arc::clone(link), Mutex::default());
                Self::Shared(Shared { link, drawn: sealer, agreed })
            }
        })
    }

    /// Seals a state, unless the key is not known yet.
    pub(crate) fn seal(&self, state: Value, binding: &Binding) -> Result<String, Lost> {
        let (sealer, now) = self.present()?;
        Ok(sealer.seal(state, binding, now))
    }

    /// The state, if it was sealed under the same binding and has not expired.
    pub(crate) fn open(&self, text: &str, binding: &Binding) -> Result<Value, NotOpened> {
        let (sealer, now) = self.present().map_err(|Lost| NotOpened::Unavailable)?;
        sealer.open(text, binding, now).map_err(NotOpened::Refused)
    }

    /// The key, and what its clock shows.
    fn present(&self) -> Result<(Sealer, u64), Lost> {
        match self {
            Self::Own { sealer, clock } => Ok((*sealer, clock.now().as_millis())),
            Self::Shared(shared) => {
                let now = u64::try_from(shared.link.store_now()).unwrap_or(0);
                Ok((shared.agreed().ok_or(Lost)?, now))
            }
        }
    }

    /// Learns the key that all replicas have. To be run as long as it is used.
    pub(crate) async fn keep(&self) {
        let Self::Shared(shared) = self else { return };
        let namespace = shared.link.namespace();
        // It also rings when the store has been reached again, which may have lost the key.
        let bell = shared.link.bell(&format!("{namespace}:{{{namespace}}}:bell"));
        loop {
            let wait = match shared.agree().await {
                Ok(()) => WHEN_KNOWN,
                Err(Lost) => WHEN_UNKNOWN,
            };
            let _ = timeout(wait, bell.rung()).await;
        }
    }
}

impl Shared {
    fn agreed(&self) -> Option<Sealer> {
        *self.agreed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn agree(&self) -> Result<(), Lost> {
        let namespace = self.link.namespace();
        let key = format!("{namespace}:{{{namespace}}}:seal");
        let offered = self.agreed().unwrap_or(self.drawn).digits();
        let mut reply = self.link.run(&Call::new(&AGREE, &key).text(&offered)).await?;
        let agreed = reply.text().and_then(|digits| Sealer::parse(&digits)).ok_or(Lost)?;
        *self.agreed.lock().unwrap_or_else(PoisonError::into_inner) = Some(agreed);
        Ok(())
    }
}
