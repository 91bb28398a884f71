//! `inCidr("..")`: whether a text is an address of a network, IPv4 or IPv6. Networks are quoted and checked when the
//! condition is compiled; what is no address is in none of them.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use cel::{
    Context, DeclarationError, Env, IdedExpr, Value,
    common::ast::{CallExpr, Expr, LiteralValue},
    parser::Macro,
};

/// What `inCidr` is compiled to: a name that nobody can write.
pub(super) const APPLY: &str = "@inCidr";

/// The name that people write.
const NAME: &str = "inCidr";

/// The longest text that can be an address.
const MAX_ADDRESS: usize = 64;

/// All addresses that share the first bits with one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Network {
    address: IpAddr,
    bits: u8,
}

/// The networks of one condition, by how they are written.
#[derive(Debug, Clone, Default)]
pub(super) struct Networks(Arc<BTreeMap<String, Network>>);

/// Rewrites `address.inCidr(..)` in everything that `env` compiles.
pub(super) fn declare(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_macro(Macro::receiver(NAME, 1, |helper, target, args| {
        let args = target.take().into_iter().chain(args.drain(..)).collect();
        let call = Expr::Call(CallExpr { func_name: APPLY.to_owned(), target: None, args });
        Ok(Some(helper.next_expr(call)))
    }))
}

/// The networks that a call names: a quoted text, or a list of them.
pub(super) fn compile(arg: Option<&IdedExpr>) -> Result<Vec<(String, Network)>, String> {
    let unquoted = || format!("{NAME}() takes a quoted network, or a list of them: \"10.0.0.0/8\"");
    let parts = match arg.map(|arg| &arg.expr) {
        Some(Expr::List(list)) => list.elements.iter().collect(),
        _ => arg.into_iter().collect::<Vec<_>>(),
    };
    let network = |part: &IdedExpr| {
        let Expr::Literal(LiteralValue::String(text)) = &part.expr else { return Err(unquoted()) };
        Ok((text.inner().to_owned(), Network::parse(text.inner())?))
    };
    let networks = parts.into_iter().map(network).collect::<Result<Vec<_>, _>>()?;
    if networks.is_empty() { Err(unquoted()) } else { Ok(networks) }
}

/// How many networks one call may have to look at.
pub(super) fn count(arg: Option<&IdedExpr>) -> usize {
    match arg.map(|arg| &arg.expr) {
        Some(Expr::List(list)) => list.elements.len(),
        _ => 1,
    }
}

impl Networks {
    pub(super) fn new(networks: BTreeMap<String, Network>) -> Self {
        Self(Arc::new(networks))
    }

    pub(super) fn provide(&self, context: &mut Context<'_, '_>) -> Result<(), DeclarationError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let networks = Self(Arc::clone(&self.0));
        context.add_function(APPLY, move |text: Arc<String>, wanted: Value| {
            let Some(address) = address(&text) else { return false };
            let holds = |one: &Value| matches!(one, Value::String(one) if networks.holds(one, address));
            if let Value::List(list) = &wanted { list.iter().any(holds) } else { holds(&wanted) }
        })
    }

    fn holds(&self, network: &str, address: IpAddr) -> bool {
        self.0.get(network).is_some_and(|network| network.contains(address))
    }
}

impl Network {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("{text:?} is no network: {why}");
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr =
            address.parse().map_err(|_| wrong("wanted is \"10.0.0.0/8\" or \"2001:db8::/32\""))?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => width,
            Some(bits) => bits
                .parse()
                .ok()
                .filter(|bits| *bits <= width)
                .ok_or_else(|| wrong(&format!("after the slash comes a number from 0 to {width}")))?,
        };
        let network = Self { address, bits };
        let first = network.first();
        if first != address {
            return Err(wrong(&format!("it starts at {first}: write \"{first}/{bits}\"")));
        }
        Ok(network)
    }

    /// The address with all bits after the prefix cleared.
    fn first(self) -> IpAddr {
        match self.address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                IpAddr::V4((address.to_bits() & mask).into())
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                IpAddr::V6((address.to_bits() & mask).into())
            }
        }
    }

    fn contains(self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4()
            && Self { address, bits: self.bits }.first() == self.address
    }
}

/// `::ffff:10.0.0.1` is the IPv4 address that it holds.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    (text.len() <= MAX_ADDRESS)
        .then(|| text.parse::<IpAddr>().ok())
        .flatten()
        .map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_network_holds_its_addresses() {
        let check = |network: &str, text: &str, expected: bool| {
            let network = Network::parse(network).expect(network);
            let found = address(text).is_some_and(|address| network.contains(address));
            assert_eq!(found, expected, "{text} in {network:?}");
        };
        check("10.0.0.0/8", "10.255.0.1", true);
        check("10.0.0.0/8", "11.0.0.1", false);
        check("10.0.0.0/8", "::ffff:10.1.2.3", true);
        check("0.0.0.0/0", "203.0.113.9", true);
        check("0.0.0.0/0", "2001:db8::1", false);
        check("192.0.2.7", "192.0.2.7", true);
        check("192.0.2.7/32", "192.0.2.8", false);
        check("2001:db8::/32", "2001:db8:ffff::1", true);
        check("::/0", "2001:db8::1", true);
        check("2001:db8::1", "2001:db8::1", true);
        check("10.0.0.0/8", "10.0.0.1:443", false);
        check("10.0.0.0/8", "ten", false);
    }

    #[test]
    fn what_is_no_network_says_why() {
        let check = |text: &str, expected: &str| {
            assert_eq!(Network::parse(text).expect_err(text), format!("{text:?} is no network: {expected}"));
        };
        check("10.0.0", "wanted is \"10.0.0.0/8\" or \"2001:db8::/32\"");
        check("10.0.0.0/33", "after the slash comes a number from 0 to 32");
        check("::/129", "after the slash comes a number from 0 to 128");
        check("10.0.0.0/", "after the slash comes a number from 0 to 32");
        check("10.1.2.3/8", "it starts at 10.0.0.0: write \"10.0.0.0/8\"");
    }

    proptest! {
        #[test]
        fn prefixes_decide(a: u32, b: u32, bits in 0_u8..=32) {
            let network = Network { address: IpAddr::V4(a.into()), bits };
            let network = Network { address: network.first(), bits };
            let shared = bits == 0 || a >> (32 - bits) == b >> (32 - bits);
            prop_assert_eq!(network.contains(IpAddr::V4(b.into())), shared);
        }
    }
}
