//! What a host tells of itself, from its stream to `drover top` and to its last hours.

use drover_proto::{
    view::{HistoryView, TopView},
    wire::{Figures, Hello, HistoryRequest, MetricsEndpoint, from_agent},
};

use super::{hostile::Liar, *};

fn figures(cpu: f64) -> from_agent::Message {
    let unix_ms = clock::unix_ms() + 60_000;
    let figures =
        Figures { unix_ms, cpu, load1: 0.5, cores: 4, memory_bytes: 1 << 30, uptime_s: 7.5, ..Figures::default() };
    from_agent::Message::Figures(figures)
}

#[tokio::test]
async fn figures_are_shown_checked_and_forgotten_with_their_host() {
    let mut world = World::new().await;
    let identity = world.host("web-1", "web").await;
    world.host("web-2", "web").await;
    let metrics = Some(MetricsEndpoint { listen: "0.0.0.0:7444".to_owned(), tls: true });
    let mut host = Liar::new(&world, &identity, Hello { metrics, ..Hello::default() }).await.unwrap();
    host.welcome().await;
    for cpu in [20.0, f64::NAN, 1e9, 40.0] {
        host.say(figures(cpu)).await;
    }
    let mut pictures = world.operator.top(Empty {}).await.unwrap().into_inner();
    let top = loop {
        let top: TopView = read(pictures.message().await.unwrap().expect("the stream ended"));
        // What was said is on its way.
        if top.hosts[0].figures.is_some_and(|figures| figures.cpu == 40.0) {
            break top;
        }
    };
    let [told, silent] = &top.hosts[..] else { panic!("{top:?}") };
    assert_eq!((told.host.as_str(), told.connected, told.cores, told.uptime_s), ("web-1", true, 4, 7));
    assert_eq!((silent.host.as_str(), silent.connected, silent.figures), ("web-2", false, None));

    let request = || HistoryRequest { host: "web-1".to_owned(), last_s: 0 };
    let history: HistoryView = read(world.operator.get_history(request()).await.unwrap().into_inner());
    // The two that can be, unless a step ended in between.
    assert!((20.0..=40.0).contains(&history.points[0].mean.cpu), "{history:?}");
    assert_eq!(history.points.last().unwrap().max.cpu, 40.0);
    let id = world.app.store.host("web-1").await.unwrap().unwrap().id;
    let skew_ms = world.services.figures.skew_ms(&id).unwrap();
    assert!((50_000..=60_000).contains(&skew_ms), "{skew_ms}");
    let endpoint = world.app.store.endpoints().await.unwrap()[&id];
    assert_eq!((endpoint.peer.to_string().as_str(), endpoint.tls), ("127.0.0.1", true));

    drop(host);
    let mut back = Liar::new(&world, &identity, Hello::default()).await.unwrap();
    back.welcome().await;
    assert_eq!(world.services.figures.skew_ms(&id), None, "its clock may have been set meanwhile");

    world.operator.remove_host(RemoveHostRequest { host: "web-1".to_owned() }).await.unwrap();
    assert_eq!(world.services.figures.newest(&id), None);
    assert_eq!(world.operator.get_history(request()).await.unwrap_err().code(), tonic::Code::NotFound);
}
