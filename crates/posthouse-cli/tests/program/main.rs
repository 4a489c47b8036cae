//! The tests of the built program, which they run as a user does.
#![deny(unsafe_code)]

mod bench;
mod command_line;
mod connect;
mod demo;
mod doctor;
mod faulty_echo_server;
mod faulty_proxy;
mod file_server;
mod foreign_clients;
mod get;
mod harness;
mod hostile_file_server;
mod hostile_servers;
mod list;
mod native_client;
mod resume;
mod send;
mod serve;
mod serve_config;
mod serve_directory;
mod sim;
mod tempdir;
#[cfg(windows)]
mod windows_console;
