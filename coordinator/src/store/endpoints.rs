//! From where hosts come, and where they serve metrics: for Prometheus, which is told by `metrics`.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use drover_proto::name::HostId;

use super::{Result, Store, StoreError, commit, parse};

/// Where a host's metrics are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// From where its last stream came.
    pub peer: IpAddr,
    /// As it is configured there; `None` = it serves none.
    pub listen: Option<SocketAddr>,
    /// Whether TLS is spoken there.
    pub tls: bool,
}

type Row = (String, String, String, i64);

impl Store {
    /// Keeps where a host is; what is known already costs no write.
    pub async fn set_endpoint(&self, id: &HostId, endpoint: &Endpoint) -> Result<()> {
        let failed = |e| StoreError::Sql("keep a host's address", e);
        let known: Option<Row> =
            sqlx::query_as("SELECT id, peer, metrics_listen, metrics_tls FROM hosts WHERE id = $1")
                .bind(id.as_str())
                .fetch_optional(&self.read)
                .await
                .map_err(failed)?;
        // What cannot be read is written anew.
        if known.is_some_and(|row| read(row).is_ok_and(|known| known.is_some_and(|(_, known)| known == *endpoint))) {
            return Ok(());
        }
        let mut tx = self.begin().await?;
        sqlx::query("UPDATE hosts SET peer = $2, metrics_listen = $3, metrics_tls = $4 WHERE id = $1")
            .bind(id.as_str())
            .bind(endpoint.peer.to_string())
            .bind(endpoint.listen.map(|listen| listen.to_string()).unwrap_or_default())
            .bind(i64::from(endpoint.tls))
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
        commit(tx).await
    }
    /// Of all hosts that have told.
    pub async fn endpoints(&self) -> Result<BTreeMap<HostId, Endpoint>> {
        let rows: Vec<Row> =
            sqlx::query_as("SELECT id, peer, metrics_listen, metrics_tls FROM hosts WHERE revoked_ms IS NULL")
                .fetch_all(&self.read)
                .await
                .map_err(|e| StoreError::Sql("read the hosts' addresses", e))?;
        rows.into_iter().filter_map(|row| read(row).transpose()).collect()
    }
}

/// `None`: it was never there, or before this was noted.
fn read((id, peer, listen, tls): Row) -> Result<Option<(HostId, Endpoint)>> {
    if peer.is_empty() {
        return Ok(None);
    }
    let listen = if listen.is_empty() { None } else { Some(parse(&listen, "a host's address")?) };
    let endpoint = Endpoint { peer: parse(&peer, "a host's address")?, listen, tls: tls != 0 };
    Ok(Some((parse(&id, "a host's id")?, endpoint)))
}

#[cfg(test)]
mod tests {
    //! Kept, changed, and gone with the host.
    use super::*;
    use crate::store::tests::{enrolled, temporary};

    #[tokio::test]
    async fn where_a_host_serves_metrics_is_kept() {
        let t = temporary().await;
        let id = enrolled(&t.store).await;
        assert!(t.store.endpoints().await.unwrap().is_empty());
        let none = Endpoint { peer: "10.0.0.5".parse().unwrap(), listen: None, tls: false };
        let some = Endpoint { listen: Some("[::]:7444".parse().unwrap()), tls: true, ..none };
        for endpoint in [none, some, some] {
            t.store.set_endpoint(&id, &endpoint).await.unwrap();
            assert_eq!(t.store.endpoints().await.unwrap(), BTreeMap::from([(id.clone(), endpoint)]));
        }
        t.store.revoke_host(&id, "ada", 9).await.unwrap();
        assert!(t.store.endpoints().await.unwrap().is_empty());
    }
}
