//! The `drover` command. Read in this order: `args` (what may be typed), `cmd` (what each verb does, one file per group),
//! `manifest` and `pack` (a manifest becomes an app and an archive), `client` (credentials, the connection, errors),
//! `show` (tables, plans, progress). It sees only `drover_proto`; the coordinator decides everything.

pub mod args;
pub mod client;
pub mod cmd;
pub mod fault;
pub mod manifest;
pub mod pack;
pub mod show;
