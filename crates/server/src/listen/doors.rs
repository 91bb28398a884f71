//! The sockets: which address serves what. Bound before anything else starts, so that a port that is
//! taken is the first thing that an operator hears of.

use std::{io, net::SocketAddr};

use tokio::net::TcpListener;

use crate::{Config, config::Address};

/// What a listener serves, told apart by path where several share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entrance {
    /// `/api`
    Http,
    /// `/agent`
    Agents,
    /// `/hooks`
    Hooks,
}

/// One socket and what comes in through it.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) listener: TcpListener,
    pub(crate) address: SocketAddr,
    pub(crate) serves: Vec<Entrance>,
}

/// Bound, not yet accepting: who connects early waits.
#[derive(Debug)]
pub struct Listeners {
    pub(crate) doors: Vec<Door>,
}

/// Where everything is, with the ports that the system chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    pub http: SocketAddr,
    pub agents: SocketAddr,
    pub hooks: SocketAddr,
}

#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error(
        "[server] {key} = \"{address}\" is not loopback: the API takes no tokens yet, and so connections from this \
         machine only (127.0.0.1 or [::1])"
    )]
    NotLoopback { key: &'static str, address: Address },
    #[error(
        "[server] {key}: {address} is in use by another process (`ss -ltnp 'sport = :{}'` names it); stop it, or \
         choose another port",
        address.socket_addr().port()
    )]
    InUse { key: &'static str, address: Address },
    #[error("[server] {key}: cannot listen on {address}")]
    Other { key: &'static str, address: Address, source: io::Error },
}

impl Entrance {
    const ALL: [Self; 3] = [Self::Http, Self::Agents, Self::Hooks];

    const fn key(self) -> &'static str {
        match self {
            Self::Http => "http_port",
            Self::Agents => "websocket_port",
            Self::Hooks => "hook_port",
        }
    }

    fn address(self, config: &Config) -> Address {
        match self {
            Self::Http => config.server.http_port,
            Self::Agents => config.server.websocket_port,
            Self::Hooks => config.server.hook_port,
        }
    }
}

impl Listeners {
    pub async fn bind(config: &Config) -> Result<Self, BindError> {
        let mut doors: Vec<(Address, Door)> = Vec::new();
        for entrance in Entrance::ALL {
            let address = entrance.address(config);
            check_loopback(entrance, address)?;
            match doors.iter_mut().find(|(other, _)| other.shares_socket_with(address)) {
                Some((_, door)) => door.serves.push(entrance),
                None => doors.push((address, Door::open(entrance, address).await?)),
            }
        }
        Ok(Self { doors: doors.into_iter().map(|(_, door)| door).collect() })
    }

    /// Where an agent of this very process connects: the agents' listener, or one of its own where that one takes nobody
    /// without a key.
    pub async fn own_agents(&mut self) -> Result<SocketAddr, BindError> {
        let agents = self.addresses().agents;
        if agents.ip().to_canonical().is_loopback() {
            return Ok(agents);
        }
        let door = Door::open(Entrance::Agents, Address::port(0)).await?;
        let address = door.address;
        self.doors.push(door);
        Ok(address)
    }

    pub fn addresses(&self) -> Addresses {
        Addresses {
            http: self.address_of(Entrance::Http),
            agents: self.address_of(Entrance::Agents),
            hooks: self.address_of(Entrance::Hooks),
        }
    }

    fn address_of(&self, entrance: Entrance) -> SocketAddr {
        let door = self.doors.iter().find(|door| door.serves.contains(&entrance));
        door.expect("bind opens a door for every entrance").address
    }
}

impl Door {
    async fn open(entrance: Entrance, address: Address) -> Result<Self, BindError> {
        let key = entrance.key();
        let failed = |source: io::Error| {
            if source.kind() == io::ErrorKind::AddrInUse {
                BindError::InUse { key, address }
            } else {
                BindError::Other { key, address, source }
            }
        };
        let listener = TcpListener::bind(address.socket_addr()).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address: bound, serves: vec![entrance] })
    }
}

/// Agents show keys where they come from elsewhere, and deliveries are signed; the API has neither yet.
fn check_loopback(entrance: Entrance, address: Address) -> Result<(), BindError> {
    let loopback = address.socket_addr().ip().to_canonical().is_loopback();
    if loopback || entrance != Entrance::Http {
        return Ok(());
    }
    Err(BindError::NotLoopback { key: entrance.key(), address })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(http: &str, agents: &str, hooks: &str) -> Config {
        let mut config = Config::read(None, &[]).expect("the defaults parse");
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address").into();
        config.server.http_port = address(http);
        config.server.websocket_port = address(agents);
        config.server.hook_port = address(hooks);
        config
    }

    #[tokio::test]
    async fn free_ports_are_three_sockets_and_equal_ones_are_one() {
        let apart =
            Listeners::bind(&config("127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0")).await.expect("bound");
        assert_eq!(apart.doors.len(), 3);
        let free = apart.addresses().http.to_string();
        drop(apart);
        let together = Listeners::bind(&config(&free, &free, &free)).await.expect("bound");
        assert_eq!(together.doors.len(), 1);
        assert_eq!(together.addresses().hooks, together.addresses().http);
    }

    #[tokio::test]
    async fn the_api_faces_no_network() {
        let error =
            Listeners::bind(&config("0.0.0.0:0", "127.0.0.1:0", "127.0.0.1:0")).await.expect_err("refused");
        assert!(error.to_string().contains("http_port"), "{error}");
        Listeners::bind(&config("127.0.0.1:0", "127.0.0.1:0", "0.0.0.0:0")).await.expect("bound");
    }

    #[tokio::test]
    async fn an_agent_of_this_process_always_comes_over_loopback() {
        let mut listeners =
            Listeners::bind(&config("127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0")).await.expect("bound");
        assert_eq!(listeners.own_agents().await.expect("there"), listeners.addresses().agents);
        let mut listeners =
            Listeners::bind(&config("127.0.0.1:0", "0.0.0.0:0", "127.0.0.1:0")).await.expect("bound");
        let own = listeners.own_agents().await.expect("bound");
        assert!(own.ip().is_loopback());
        assert_ne!(own.port(), listeners.addresses().agents.port());
    }

    #[tokio::test]
    async fn a_port_in_use_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = taken.local_addr().expect("an address").to_string();
        let error =
            Listeners::bind(&config(&address, "127.0.0.1:0", "127.0.0.1:0")).await.expect_err("refused");
        assert!(error.to_string().contains(&format!("{address} is in use")), "{error}");
    }
}
