//! A cable between agent and server that a story can cut and mend.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};

pub(crate) struct Link {
    pub address: SocketAddr,
    whole: Arc<watch::Sender<bool>>,
}

impl Link {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let whole = Arc::new(watch::Sender::new(true));
        tokio::spawn(forward(listener, server, Arc::clone(&whole)));
        Self { address, whole }
    }

    /// Drops every connection, and every new one at once.
    pub(crate) fn cut(&self) {
        self.whole.send_replace(false);
    }

    pub(crate) fn mend(&self) {
        self.whole.send_replace(true);
    }
}

async fn forward(listener: TcpListener, server: SocketAddr, whole: Arc<watch::Sender<bool>>) {
    while let Ok((mut agent, _)) = listener.accept().await {
        let mut whole = whole.subscribe();
        tokio::spawn(async move {
            if !*whole.borrow_and_update() {
                return;
            }
            if let Ok(mut server) = TcpStream::connect(server).await {
                tokio::select! {
                    _ = copy_bidirectional(&mut agent, &mut server) => {}
                    _ = whole.wait_for(|whole| !whole) => {}
                }
            }
        });
    }
}
