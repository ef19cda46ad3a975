//! The calls about what hosts are doing. Part of `client`.

use drover_proto::{view::HistoryView, wire};
use tonic::{Response, Status};

use super::{Client, Document, document, error};
use crate::fault::Fault;

impl Client {
    /// The last day of a host; `None`: the coordinator is of an older version, and knows nothing of it.
    pub async fn history(&mut self, host: &str) -> Result<Option<Document<HistoryView>>, Fault> {
        let request = wire::HistoryRequest { host: host.to_owned(), last_s: 0 };
        match self.calls.get_history(request).await {
            Ok(reply) => document(&reply.into_inner().json).map(Some),
            Err(status) if error::is_unknown_call(&status) => Ok(None),
            Err(status) => Err(self.fault(&status)),
        }
    }
    /// `drover top`: now and every few seconds; `Status` as it is, so that the caller can tell a lost connection.
    pub async fn top(&mut self) -> Result<tonic::Streaming<wire::View>, Status> {
        self.calls.top(wire::Empty {}).await.map(Response::into_inner)
    }
}
