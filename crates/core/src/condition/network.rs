//! `inCidr("..")`: whether a text is an address of a network, IPv4 or IPv6. Networks are quoted and checked when the
//! condition is compiled; what is no address is in none of them.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use cel::{
    Context, DeclarationError, Env, IdedExpr, Value,
    common::ast::{CallExpr, Expr, LiteralValue},
    parser::Macro,
};

use crate::network::{Network, address};

/// What `inCidr` is compiled to: a name that nobody can write.
pub(super) const APPLY: &str = "@inCidr";

/// The name that people write.
const NAME: &str = "inCidr";

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
