//! What hosts say of their specs.

use super::*;

#[tokio::test]
async fn a_refused_spec_is_kept_until_one_is_accepted() {
    let t = temporary().await;
    let id = enrolled(&t.store).await;
    let refused =
        async || t.store.host(A).await.unwrap().unwrap().refused.map(|refused| (refused.generation, refused.message));
    assert_eq!(refused().await, None);
    t.store.set_refused(&id, 5, "why").await.unwrap();
    t.store.set_refused(&id, 4, "an older one").await.unwrap();
    t.store.set_accepted(&id, 4).await.unwrap();
    assert_eq!(refused().await, Some((5, "why".to_owned())));
    t.store.set_accepted(&id, 6).await.unwrap();
    assert_eq!(refused().await, None);
}
