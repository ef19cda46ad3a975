//! An operator renews while other commands of theirs are under way.

use drover_proto::wire::RenewRequest;

use super::*;

#[tokio::test]
async fn a_command_that_began_before_a_renewal_goes_on_after_it() {
    let world = World::new().await;
    let state = StateDir(world._dir.path().join("state"));
    let word = crate::admin::operator_add(&state, &"bob".parse().unwrap(), Duration::from_secs(60)).unwrap();
    let (old, trust) = identity(&world.address, word.expose(), TokenKind::Login, "").await.unwrap();
    let command = async |with: &Identity| {
        let config = client_config(&trust, Some(with)).unwrap();
        OperatorClient::new(dial(&world.address, config).await.unwrap())
    };
    let (mut first, mut second) = (command(&old).await, command(&old).await);
    let mut renewed = Vec::new();
    for caller in [&mut first, &mut second] {
        let key = new_key().unwrap();
        let reply = caller.renew(RenewRequest { csr_der: key.csr_der }).await.unwrap().into_inner();
        let certificate_der = reply.certificate.unwrap().certificate_der;
        renewed.push(Identity { certificate_der, key_der: key.key_der });
    }
    // Both were given one, whichever of them stays on the disk; a third command has read the one, a fourth the other.
    for new in &renewed {
        command(new).await.list_hosts(Empty {}).await.unwrap();
    }
    for caller in [&mut first, &mut second] {
        caller.list_hosts(Empty {}).await.expect("a command is cut off in its middle");
        let key = new_key().unwrap();
        caller.renew(RenewRequest { csr_der: key.csr_der }).await.expect_err("the old one is renewed for ever");
    }
}
