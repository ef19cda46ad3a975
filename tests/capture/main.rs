//! `make capture`: one real run of everything that drover's programs say to each other, between packages on lab hosts, kept by
//! the recorder as `tests/fixtures/protocol-<n>`. `script` is the run. A call of the contract that the run does not make is an
//! error, so that whoever adds one adds it there.

mod script;

use std::{collections::BTreeSet, path::Path};

use drover_tests::recorder::Said;
use prost::Message as _;

fn main() {
    let name = format!("fixtures/protocol-{}", drover_proto::PROTOCOL_VERSION);
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let taken = format!("{} is there already: what was said is never changed", directory.display());
    assert!(!directory.exists(), "{taken}");
    let said = script::run();
    let missing = missing(&said);
    assert!(missing.is_empty(), "the run does not call {missing:?}: add them to tests/capture/script.rs");
    std::fs::create_dir(&directory).expect("a new directory");
    for (name, bytes) in &said {
        std::fs::write(directory.join(format!("{name}.grpc")), bytes).expect("a file");
        println!("{:>8} {name}", bytes.len());
    }
}

/// What the contract has and nobody called.
fn missing(said: &Said) -> Vec<String> {
    let method = |name: &String| name.split('.').take(2).collect::<Vec<_>>().join(".");
    let called: BTreeSet<String> = said.keys().map(method).collect();
    let set = prost_types::FileDescriptorSet::decode(drover_proto::DESCRIPTORS).expect("the contract");
    let services = set.file.iter().flat_map(|file| &file.service);
    let declared = services
        .flat_map(|service| service.method.iter().map(move |method| format!("{}.{}", service.name(), method.name())));
    declared.filter(|name| !called.contains(name)).collect()
}
