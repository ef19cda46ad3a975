//! What an enrolled agent notices of a coordinator under a flood: the time from an event that it sends to the
//! acknowledgement, which comes after the coordinator's commit; quiet, and under each kind of `flooding`, in turn. The agent is
//! one that only talks, in this process, and so is the peer that floods, on the same cores.

use std::time::{Duration, Instant};

use drover_proto::{
    PROTOCOL_VERSION,
    event::{Event, EventKind},
    tls::{Identity, Trust, client_config, dial, new_key},
    token::{Token, TokenKind},
    wire::{
        EnrollHostRequest, Events, FromAgent, Hello, ToAgent, agent_link_client::AgentLinkClient,
        enrolment_client::EnrolmentClient, from_agent, to_agent,
    },
};
use drover_tests::{fleet::Fleet, lab::Host};
use tokio::{runtime, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

use crate::{
    figure::Samples,
    flooding::{FLOODS, Peer},
    setting,
};

/// Between two events of the agent: it stays below what a host may say.
const EVERY: Duration = Duration::from_millis(100);
/// For a flood to be at its height.
const RISE: Duration = Duration::from_secs(2);

/// `BENCH_ROUNDS`: how many events under each flood.
pub fn measure() -> String {
    let rounds = setting("BENCH_ROUNDS", 100);
    let fleet = Fleet::start_empty(&[]);
    let token = fleet.alice.token("role=none", 2);
    // The agent has a thread of its own, so that it does not wait for the peer that floods.
    let agents = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let floods = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let (measured, trust) = agents.block_on(enroll(&fleet.address(), &token, "measured"));
    let (flooding, _) = agents.block_on(enroll(&fleet.address(), &token, "flooding"));
    let peer = Peer { address: fleet.address(), trust: trust.clone(), identity: flooding };
    let mut agent = agents.block_on(Agent::connect(&fleet.address(), &trust, &measured));

    let mut table = String::from("| under | ms, median | ms, p99 | x quiet | done | coordinator, MiB | its files |\n");
    table.push_str("|---|---|---|---|---|---|---|\n");
    let mut quiet = f64::NAN;
    for flood in FLOODS {
        let stop = CancellationToken::new();
        let running = floods.spawn(flood.run(peer.clone(), stop.clone()));
        std::thread::sleep(RISE);
        let mut samples = Samples::default();
        for _ in 0..rounds {
            agents.block_on(async { samples.add(agent.round_trip().await) });
            std::thread::sleep(EVERY);
        }
        let (mib, files) = weight(&fleet.coordinator);
        stop.cancel();
        let done = floods.block_on(running).expect("a flood");
        quiet = if quiet.is_nan() { samples.median() } else { quiet };
        table.push_str(&format!(
            "| {} | {:.1} | {:.1} | {:.1} | {done} | {mib:.0} | {files} |\n",
            flood.name(),
            samples.median(),
            samples.percentile(99.0),
            samples.median() / quiet
        ));
    }
    format!("Event sent -> acknowledged, one enrolled agent, {rounds} events under each flood\n\n{table}")
}

/// Memory and open files of the coordinator.
fn weight(coordinator: &Host) -> (f64, u64) {
    let pid = coordinator.main_pid("drover-coordinator.service");
    let status = coordinator.sh(&format!("grep VmRSS /proc/{pid}/status; ls /proc/{pid}/fd | wc -l"));
    let mut numbers = status.split_whitespace().filter_map(|word| word.parse::<u64>().ok());
    let kib = numbers.next().unwrap_or_default();
    (kib as f64 / 1024.0, numbers.next().unwrap_or_default())
}

async fn enroll(address: &str, token: &str, name: &str) -> (Identity, Trust) {
    let token = Token::parse(token, TokenKind::Join).expect("a token");
    let config = client_config(&Trust::Fingerprint(token.ca_fingerprint), None).expect("a TLS configuration");
    let mut client = EnrolmentClient::new(dial(address, config).await.expect("the coordinator"));
    let key = new_key().expect("a key");
    let request = EnrollHostRequest {
        token_id: token.id,
        token_secret: token.secret.expose().clone(),
        csr_der: key.csr_der,
        host_name: name.to_owned(),
        agent_version: "bench".to_owned(),
        protocol_version: PROTOCOL_VERSION,
    };
    let certificate = client.enroll_host(request).await.expect("a certificate").into_inner();
    let identity = Identity { certificate_der: certificate.certificate_der, key_der: key.key_der };
    (identity, Trust::Roots(vec![certificate.ca_der]))
}

/// An agent that only talks.
struct Agent {
    out: mpsc::Sender<FromAgent>,
    incoming: Streaming<ToAgent>,
    next_seq: u64,
}

impl Agent {
    async fn connect(address: &str, trust: &Trust, identity: &Identity) -> Self {
        let config = client_config(trust, Some(identity)).expect("a TLS configuration");
        let channel = dial(address, config).await.expect("the coordinator");
        let (out, outgoing) = mpsc::channel(4);
        let hello = Hello { protocol_version: PROTOCOL_VERSION, ..Hello::default() };
        out.send(FromAgent { message: Some(from_agent::Message::Hello(hello)) }).await.expect("a stream");
        let stream = AgentLinkClient::new(channel).session(ReceiverStream::new(outgoing)).await.expect("a stream");
        Self { out, incoming: stream.into_inner(), next_seq: 1 }
    }

    /// Sends one event, and waits until it is stored; ms.
    async fn round_trip(&mut self) -> f64 {
        let kind = EventKind::Other("bench".to_owned());
        let event = Event { at_unix_ms: 1, app: None, kind, message: "measured".to_owned() };
        let events_json = serde_json::to_vec(&[event]).expect("an event");
        let events = Events { spool_id: "bench".to_owned(), first_seq: self.next_seq, events_json };
        let began = Instant::now();
        self.out.send(FromAgent { message: Some(from_agent::Message::Events(events)) }).await.expect("a stream");
        loop {
            let message = self.incoming.message().await.expect("the agent was cut off").expect("the stream ended");
            if let Some(to_agent::Message::EventsAck(ack)) = message.message {
                assert_eq!(ack.up_to_seq, self.next_seq);
                self.next_seq += 1;
                return began.elapsed().as_secs_f64() * 1000.0;
            }
        }
    }
}
