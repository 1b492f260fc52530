//! A mock agent: says one line to whoever connects, as HAProxy's agent protocol has it.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

#[derive(Debug)]
pub struct Agent {
    line: Arc<Mutex<String>>,
    listener: TcpListener,
    acceptor: Option<JoinHandle<()>>,
}

impl Agent {
    pub fn start(addr: SocketAddr, line: &str) -> Self {
        let listener = TcpListener::bind(addr).unwrap_or_else(|e| panic!("agent on {addr}: {e}"));
        let line = Arc::new(Mutex::new(line.to_owned()));
        let (handle, said) = (listener.try_clone().expect("a second handle"), Arc::clone(&line));
        let acceptor = thread::spawn(move || {
            while let Ok((mut stream, _)) = handle.accept() {
                let line = said.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let _ = stream.write_all(format!("{line}\n").as_bytes());
            }
        });
        Agent { line, listener, acceptor: Some(acceptor) }
    }

    /// What it says from now on.
    pub fn says(&self, line: &str) {
        line.clone_into(&mut self.line.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}
