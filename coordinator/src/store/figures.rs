//! What hosts were doing during the last day, as `figures` makes points of it: per host and hour one row.

use std::collections::BTreeMap;

use drover_proto::name::HostId;
use sqlx::{Sqlite, Transaction};

use super::{Result, Store, StoreError, commit};
use crate::figures::{COUNT, Point, STEP_MS};

const HOUR_MS: i64 = 3_600_000;
/// A point: which step of its hour, of how many readings, then means and greatest.
const POINT_BYTES: usize = 1 + 2 + 2 * COUNT * 4;

impl Store {
    /// Adds points to those that are kept, all in one write; one of a step that is there already becomes one with it. Answers
    /// the hosts that are not enrolled any more.
    pub async fn add_points(&self, points: &BTreeMap<HostId, Vec<Point>>) -> Result<Vec<HostId>> {
        let mut gone = Vec::new();
        let mut tx = self.begin().await?;
        for (host, points) in points {
            if !add(&mut tx, host, points).await? {
                gone.push(host.clone());
            }
        }
        commit(tx).await?;
        Ok(gone)
    }

    /// The points of a host since then, oldest first.
    pub async fn points(&self, host: &HostId, since_ms: i64) -> Result<Vec<Point>> {
        let rows: Vec<(i64, Vec<u8>)> =
            sqlx::query_as("SELECT hour, points FROM figures WHERE host = $1 AND hour >= $2 ORDER BY hour")
                .bind(host.as_str())
                .bind(since_ms.div_euclid(HOUR_MS))
                .fetch_all(&self.read)
                .await
                .map_err(|e| StoreError::Sql("read figures", e))?;
        let all = rows.iter().flat_map(|(hour, bytes)| read(*hour, bytes).into_values());
        Ok(all.filter(|point| point.at_ms >= since_ms).collect())
    }

    /// Drops whole hours that ended before then.
    pub async fn sweep_points(&self, before_ms: i64) -> Result<()> {
        let mut tx = self.begin().await?;
        sqlx::query("DELETE FROM figures WHERE hour < $1")
            .bind(before_ms.div_euclid(HOUR_MS))
            .execute(&mut *tx)
            .await
            .map_err(|e| StoreError::Sql("drop old figures", e))?;
        commit(tx).await
    }
}

/// `false`: there is no such host.
async fn add(tx: &mut Transaction<'static, Sqlite>, host: &HostId, points: &[Point]) -> Result<bool> {
    let failed = |e| StoreError::Sql("keep figures", e);
    let mut hours: BTreeMap<i64, Vec<&Point>> = BTreeMap::new();
    for point in points {
        hours.entry(point.at_ms.div_euclid(HOUR_MS)).or_default().push(point);
    }
    for (hour, points) in hours {
        let before: Option<(Vec<u8>,)> = sqlx::query_as("SELECT points FROM figures WHERE host = $1 AND hour = $2")
            .bind(host.as_str())
            .bind(hour)
            .fetch_optional(&mut **tx)
            .await
            .map_err(failed)?;
        let mut all = before.map(|(bytes,)| read(hour, &bytes)).unwrap_or_default();
        for point in points {
            all.entry(point.at_ms).and_modify(|known| known.merge(point)).or_insert(*point);
        }
        let done = sqlx::query(
            "INSERT INTO figures (host, hour, points) SELECT id, $2, $3 FROM hosts WHERE id = $1
             ON CONFLICT (host, hour) DO UPDATE SET points = $3",
        )
        .bind(host.as_str())
        .bind(hour)
        .bind(written(hour, &all))
        .execute(&mut **tx)
        .await
        .map_err(failed)?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

fn written(hour: i64, points: &BTreeMap<i64, Point>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(points.len() * POINT_BYTES);
    for point in points.values() {
        let step = (point.at_ms - hour * HOUR_MS) / STEP_MS;
        bytes.push(u8::try_from(step).unwrap_or(u8::MAX));
        bytes.extend(u16::try_from(point.readings).unwrap_or(u16::MAX).to_le_bytes());
        for number in point.mean.iter().chain(&point.max) {
            bytes.extend((*number as f32).to_le_bytes());
        }
    }
    bytes
}

/// What is not whole is left out: it is no more than a picture.
fn read(hour: i64, bytes: &[u8]) -> BTreeMap<i64, Point> {
    let points = bytes.chunks_exact(POINT_BYTES).filter_map(|bytes| {
        let (step, rest) = bytes.split_first()?;
        let (readings, rest) = rest.split_first_chunk::<2>()?;
        let mut numbers =
            rest.chunks_exact(4).filter_map(|four| Some(f64::from(f32::from_le_bytes(four.try_into().ok()?))));
        let (mut mean, mut max) = ([0.0; COUNT], [0.0; COUNT]);
        for place in mean.iter_mut().chain(&mut max) {
            *place = numbers.next()?;
        }
        let at_ms = hour * HOUR_MS + i64::from(*step) * STEP_MS;
        Some((at_ms, Point { at_ms, readings: u32::from(u16::from_le_bytes(*readings)), mean, max }))
    });
    points.collect()
}

#[cfg(test)]
mod tests {
    //! What is kept, for whom, and how small.
    use super::*;
    use crate::store::tests::{enrolled, temporary};

    fn point(at_ms: i64, value: f64) -> Point {
        Point { at_ms, readings: 6, mean: [value; COUNT], max: [value * 2.0; COUNT] }
    }

    #[tokio::test]
    async fn points_become_one_per_step_and_go_with_their_time_and_host() {
        let t = temporary().await;
        let id = enrolled(&t.store).await;
        let unknown: HostId = "h-00000000000000ff".parse().unwrap();
        let day: Vec<Point> = (0..288).map(|step| point(step * STEP_MS, 1.5)).collect();
        let all = BTreeMap::from([(id.clone(), day.clone()), (unknown.clone(), vec![point(0, 1.0)])]);
        assert_eq!(t.store.add_points(&all).await.unwrap(), [unknown], "the others are kept all the same");
        assert_eq!(t.store.points(&id, 0).await.unwrap(), day);

        // The second half of a step.
        let more = BTreeMap::from([(id.clone(), vec![point(STEP_MS, 4.5)])]);
        t.store.add_points(&more).await.unwrap();
        let since = t.store.points(&id, STEP_MS).await.unwrap();
        assert_eq!((since.len(), since[0].readings, since[0].mean[0], since[0].max[0]), (287, 12, 3.0, 9.0));

        let (bytes,): (i64,) =
            sqlx::query_as("SELECT SUM(LENGTH(points)) FROM figures").fetch_one(&t.store.read).await.unwrap();
        assert_eq!(bytes, 288 * 99, "what docs and migration say of its size");
        t.store.sweep_points(23 * HOUR_MS + 5).await.unwrap();
        assert_eq!(t.store.points(&id, 0).await.unwrap().len(), 12);
        t.store.remove_host(&id, "ada", 9).await.unwrap();
        assert_eq!(t.store.points(&id, 0).await.unwrap(), []);
    }

    #[test]
    fn what_is_cut_off_is_left_out() {
        let points = BTreeMap::from([(0, point(0, 1.0)), (STEP_MS, point(STEP_MS, 2.0))]);
        let bytes = written(0, &points);
        assert_eq!(read(0, &bytes), points);
        assert_eq!(read(0, &bytes[..bytes.len() - 1]).len(), 1);
        assert_eq!(read(0, b"nonsense"), BTreeMap::new());
    }
}
