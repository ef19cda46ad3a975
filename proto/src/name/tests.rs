//! What each name lets in and keeps out.

use super::*;

fn check<T: FromStr>(good: &[&str], bad: &[&str]) {
    for text in good {
        assert!(text.parse::<T>().is_ok(), "{text:?} was refused");
    }
    for text in bad {
        assert!(text.parse::<T>().is_err(), "{text:?} was let in");
    }
}

#[test]
fn names_refuse_what_could_harm() {
    check::<AppName>(&["mono", "a-1", "mono@staging"], &["", "Mono", "../x", "a/b", "a@", "a@b@c", "a b", "mono\n"]);
    check::<UnitName>(&["mono-api.service", "x@1.timer"], &["mono", ".service", "a/b.service", "a\n.service", "-"]);
    check::<AbsPath>(&["/etc/nginx/a b", "/x"], &["", "/", "x", "/a/../b", "/a//b", "/a/", "/a/./b", "/a\nb", "/a\0"]);
    check::<EnvKey>(&["A", "_x1"], &["1A", "A-B", "A=B", "", "A\n"]);
    check::<UserName>(&["www-data", "_x"], &["root;", "0", "", "a:b"]);
    check::<PackageName>(
        &["python3-venv", "g++", "nginx=1.22.1-9+deb12u1"],
        &["-y", "a b", "", "a=", "./x.deb", "a=-x"],
    );
    check::<HostId>(&["h-0123456789abcdef"], &["h-0123", "h-0123456789ABCDEF", "x"]);
    check::<LabelValue>(&["web", "eu-1"], &["", "a=b", "a,b", "-x"]);
}

#[test]
fn an_app_in_an_environment_says_both() {
    let app: AppName = "mono".parse().unwrap();
    let staged = app.in_environment(&"staging".parse().unwrap()).unwrap();
    assert_eq!(staged.as_str(), "mono@staging");
    assert_eq!((staged.base(), staged.environment().unwrap().as_str()), ("mono", "staging"));
}
