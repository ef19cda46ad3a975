//! A coordinator for tests: it answers watches and uploads, over a real connection that can be cut off.

use std::{
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex},
};

use drover_proto::{
    view::{EventView, RolloutView},
    wire::{
        self,
        operator_server::{Operator, OperatorServer},
        push_blob_request::Part,
    },
};
use futures_util::{StreamExt as _, stream};
use tokio::runtime::Runtime;
use tonic::{Request, Response, Status, Streaming};

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<Response<T>, Status>> + Send + 'a>>;
type Views = Pin<Box<dyn futures_util::Stream<Item = Result<wire::View, Status>> + Send>>;
type Lines = stream::Empty<Result<wire::LogLine, Status>>;

/// A blob that was pushed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Pushed {
    /// As the header has it.
    pub digest: String,
    /// As the header has it, in bytes.
    pub size_bytes: u64,
    /// What came.
    pub content: Vec<u8>,
}

/// What it answers, and what it was sent.
#[derive(Clone, Default)]
pub(crate) struct Double {
    /// Sent to whoever watches; after them the stream stays open.
    pub views: Vec<RolloutView>,
    /// A watch has been sent all views.
    pub watched: Arc<tokio::sync::Notify>,
    /// Sent to whoever follows; after them the stream stays open.
    pub events: Vec<EventView>,
    /// Every blob that was pushed, or a part of it.
    pub blobs: Arc<Mutex<Vec<Pushed>>>,
    /// The next push breaks off when this many bytes have come.
    pub break_off_at: Arc<Mutex<Option<usize>>>,
}

/// A `Double` that listens; dropped, it is gone like a process that was killed.
pub(crate) struct Listening {
    /// Where.
    pub address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Listening {
    /// Listens at `port`; 0 = at any.
    pub(crate) fn start(double: Double, port: u16) -> Self {
        // A runtime of its own, so that its connections die with it.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move {
            let incoming =
                tokio_stream::wrappers::TcpListenerStream::new(tokio::net::TcpListener::from_std(listener).unwrap());
            tonic::transport::Server::builder()
                .add_service(OperatorServer::new(double))
                .serve_with_incoming(incoming)
                .await
        });
        Self { address, runtime: Some(runtime) }
    }
    /// A client of it.
    pub(crate) async fn client(&self) -> super::Client {
        let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", self.address)).unwrap();
        super::Client::over(endpoint.connect().await.unwrap())
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        // From a thread of its own, which may wait: only then is the port free for the next one.
        let ended = std::thread::spawn(move || runtime.shutdown_timeout(std::time::Duration::from_secs(10))).join();
        assert!(ended.is_ok() || std::thread::panicking());
    }
}

/// The calls that no test needs.
macro_rules! absent {
    ($($name:ident($request:ident) -> $reply:ident,)*) => {
        $(fn $name<'a, 'b>(&'a self, _: Request<wire::$request>) -> Answer<'b, wire::$reply>
        where
            'a: 'b,
            Self: 'b,
        {
            Box::pin(async { Err(Status::not_found("not in this test")) })
        })*
    };
}

impl Operator for Double {
    type WatchRolloutStream = Views;
    type LogsStream = Lines;
    type EventsStream = Views;
    type HookLogsStream = Lines;
    type TopStream = Views;

    fn watch_rollout<'a, 'b>(&'a self, _: Request<wire::RolloutRequest>) -> Answer<'b, Views>
    where
        'a: 'b,
        Self: 'b,
    {
        let views: Vec<_> =
            self.views.iter().map(|view| Ok(wire::View { json: serde_json::to_vec(view).unwrap() })).collect();
        let watched = self.watched.clone();
        let open = stream::once(async move {
            watched.notify_one();
            std::future::pending().await
        });
        Box::pin(async { Ok(Response::new(stream::iter(views).chain(open).boxed() as Views)) })
    }
    fn push_blob<'a, 'b>(&'a self, request: Request<Streaming<wire::PushBlobRequest>>) -> Answer<'b, wire::Empty>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move {
            let mut parts = request.into_inner();
            let mut blob = Pushed::default();
            while let Some(message) = parts.message().await? {
                match message.part {
                    Some(Part::Header(header)) => (blob.digest, blob.size_bytes) = (header.digest, header.size_bytes),
                    Some(Part::Data(data)) => blob.content.extend(data),
                    None => return Err(Status::invalid_argument("an empty part")),
                }
                if self.break_off_at.lock().unwrap().take_if(|at| blob.content.len() >= *at).is_some() {
                    self.blobs.lock().unwrap().push(blob);
                    return Err(Status::unavailable("the coordinator is gone"));
                }
            }
            self.blobs.lock().unwrap().push(blob);
            Ok(Response::new(wire::Empty {}))
        })
    }
    fn missing_blobs<'a, 'b>(&'a self, _: Request<wire::BlobList>) -> Answer<'b, wire::BlobList>
    where
        'a: 'b,
        Self: 'b,
    {
        let blobs = self.blobs.lock().unwrap();
        let have = blobs.iter().map(|blob| blob.content.len() as u64).sum();
        Box::pin(
            async move { Ok(Response::new(wire::BlobList { digests: vec!["it".to_owned()], have_bytes: vec![have] })) },
        )
    }
    fn logs<'a, 'b>(&'a self, _: Request<wire::LogsRequest>) -> Answer<'b, Lines>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async { Ok(Response::new(stream::empty())) })
    }
    fn hook_logs<'a, 'b>(&'a self, _: Request<wire::HookLogsRequest>) -> Answer<'b, Lines>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async { Ok(Response::new(stream::empty())) })
    }
    fn events<'a, 'b>(&'a self, request: Request<wire::EventsRequest>) -> Answer<'b, Views>
    where
        'a: 'b,
        Self: 'b,
    {
        let after = request.into_inner().after_id;
        let events: Vec<_> = self.events.iter().filter(|event| event.id > after).cloned().collect();
        let views = events.into_iter().map(|event| Ok(wire::View { json: serde_json::to_vec(&[event]).unwrap() }));
        Box::pin(async { Ok(Response::new(stream::iter(views).chain(stream::pending()).boxed() as Views)) })
    }
    fn top<'a, 'b>(&'a self, _: Request<wire::Empty>) -> Answer<'b, Views>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async { Ok(Response::new(stream::empty().boxed() as Views)) })
    }
    absent! {
        plan(PlanRequest) -> PlanReply,
        apply(ApplyRequest) -> RolloutStarted,
        rollback(RollbackRequest) -> RolloutStarted,
        remove(RemoveRequest) -> RolloutStarted,
        restart(RestartRequest) -> RolloutStarted,
        list_rollouts(AppFilter) -> View,
        get_rollout(RolloutRequest) -> View,
        control_rollout(ControlRolloutRequest) -> View,
        list_hosts(Empty) -> View,
        get_host(HostRequest) -> View,
        label_host(LabelHostRequest) -> View,
        remove_host(RemoveHostRequest) -> Empty,
        revoke_host(HostRequest) -> Empty,
        import(ImportRequest) -> View,
        cordon_host(CordonHostRequest) -> View,
        drain_host(HostRequest) -> View,
        renew(RenewRequest) -> RenewReply,
        status(AppFilter) -> View,
        list_releases(AppFilter) -> View,
        set_secret(SetSecretRequest) -> Empty,
        list_secrets(Empty) -> View,
        remove_secret(SecretRequest) -> Empty,
        create_token(CreateTokenRequest) -> CreateTokenReply,
        list_tokens(Empty) -> View,
        revoke_token(TokenRequest) -> Empty,
        list_operators(Empty) -> View,
        revoke_operator(OperatorRequest) -> Empty,
        list_audit(AuditRequest) -> View,
        prune(PruneRequest) -> View,
        list_alerts(AlertsRequest) -> View,
        list_silences(Empty) -> View,
        add_silence(AddSilenceRequest) -> View,
        end_silence(SilenceRequest) -> View,
        list_notifiers(Empty) -> View,
        test_notifier(NotifierRequest) -> View,
        get_history(HistoryRequest) -> View,
    }
}
