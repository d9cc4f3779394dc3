//! Many requests on few connections: written in batches, so that the client costs less than the server.
//!
//! Owns the counting of what came back. Trap: a fast error is no success, so statuses are told apart.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use tokio::{task::JoinSet, time::timeout};

use crate::{probe::PATIENCE, wire::Wire};

/// Requests of one write.
const BATCH: u64 = 64;

/// When to stop.
#[derive(Clone, Copy)]
pub enum Until {
    Requests(u64),
    Time(Instant),
}

/// What came back.
#[derive(Debug, Default)]
pub struct Poured {
    /// 200.
    pub fine: u64,
    /// 503 with `Retry-After`.
    pub refused: u64,
    /// Anything else, and a 503 without it.
    pub odd: u64,
    /// One of the odd ones.
    pub example: Option<String>,
    /// How long it took.
    pub took: Duration,
}

impl Poured {
    pub fn per_second(&self) -> u64 {
        ((self.fine + self.refused + self.odd) as f64 / self.took.as_secs_f64()) as u64
    }
}

/// Sends what `make` gives, on so many connections, until it is enough.
pub async fn pour(
    address: SocketAddr,
    connections: usize,
    until: Until,
    make: impl Fn() -> Vec<u8> + Clone + Send + 'static,
) -> Result<Poured> {
    let left = Arc::new(AtomicU64::new(match until {
        Until::Requests(count) => count,
        Until::Time(_) => u64::MAX,
    }));
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        let (left, make) = (Arc::clone(&left), make.clone());
        tasks.spawn(async move {
            let mut wire = Wire::open(address).await?;
            let mut poured = Poured::default();
            loop {
                let late = matches!(until, Until::Time(end) if Instant::now() >= end);
                let before = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                    Some(left.saturating_sub(BATCH))
                });
                let batch = before.unwrap_or(0).min(BATCH);
                if late || batch == 0 {
                    return Ok::<_, anyhow::Error>(poured);
                }
                wire.send(&make().repeat(batch as usize)).await?;
                for _ in 0..batch {
                    let answer = timeout(PATIENCE, wire.answer()).await.context("no answer")??;
                    match answer.status {
                        200 => poured.fine += 1,
                        503 if answer.header("retry-after").is_some() => poured.refused += 1,
                        status => {
                            poured.odd += 1;
                            poured.example = Some(format!("{status} {}", answer.text()));
                        }
                    }
                }
            }
        });
    }
    let mut whole = Poured::default();
    while let Some(part) = tasks.join_next().await {
        let part = part??;
        whole.fine += part.fine;
        whole.refused += part.refused;
        whole.odd += part.odd;
        whole.example = whole.example.or(part.example);
    }
    whole.took = start.elapsed();
    Ok(whole)
}
