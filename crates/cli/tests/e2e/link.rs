//! The cable between agents and their server. A story can cut it, mend it, and plug it into a server that was started
//! again on other ports.

use std::net::SocketAddr;

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};

pub(crate) struct Link {
    /// What agents dial; the same for the whole story.
    pub(crate) address: SocketAddr,
    server: watch::Sender<Option<SocketAddr>>,
}

impl Link {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (server, target) = watch::channel(Some(server));
        tokio::spawn(forward(listener, target));
        Self { address, server }
    }

    /// Drops every connection, and every new one at once.
    pub(crate) fn cut(&self) {
        self.server.send_replace(None);
    }

    pub(crate) fn plug_into(&self, server: SocketAddr) {
        self.server.send_replace(Some(server));
    }
}

async fn forward(listener: TcpListener, target: watch::Receiver<Option<SocketAddr>>) {
    while let Ok((mut agent, _)) = listener.accept().await {
        let mut target = target.clone();
        tokio::spawn(async move {
            let Some(server) = *target.borrow_and_update() else { return };
            if let Ok(mut server) = TcpStream::connect(server).await {
                tokio::select! {
                    _ = copy_bidirectional(&mut agent, &mut server) => {}
                    _ = target.changed() => {}
                }
            }
        });
    }
}
