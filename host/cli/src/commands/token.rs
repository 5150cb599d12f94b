//! `belfry token`: through a running service, or directly on its database.

use belfry_service::access::{self, IssueError, NewAccess, Role};
use belfry_store::Store;
use clap::{Args, Subcommand};
use serde_json::json;

use crate::client::Client;
use crate::commands::serve::ConfigArgs;
use crate::connection;
use crate::direct::{self, create_store};
use crate::exit::{Exit, Fault};
use crate::options::Options;
use crate::output::{Format, Output, table};
use crate::when::Span;

/// The commands of `token`.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Create a token; it is shown only once
    Create(CreateArgs),
    /// List all tokens, without their secrets
    #[command(after_help = "\
Example:
  belfry token list")]
    List(Direct),
    /// Revoke a token
    Revoke(RevokeArgs),
}

/// How to access the tokens.
#[derive(Debug, Args)]
pub struct Direct {
    /// Access the configured database directly, without a service: for the first token, or if none is left. An SQLite
    /// store must not be in use
    #[arg(long)]
    pub direct: bool,
    /// The source of the configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// Arguments of `token create`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  belfry token create ci --role publisher --expires-in 90d
  belfry token create root --role admin --direct --config belfry.toml > root.token

Roles: producer posts events and reads nothing; viewer reads; publisher also posts events; operator also changes which
releases are active and what is sent; admin also creates and revokes tokens. Commands take the token from --token-file or
BELFRY_TOKEN.")]
pub struct CreateArgs {
    /// Name of the token's holder; releases show it as their author
    pub name: String,
    /// Role: producer, viewer, publisher, operator or admin
    #[arg(long)]
    pub role: Role,
    /// Lifetime, such as 30m, 12h or 90d; default: until it is revoked
    #[arg(long, value_name = "SPAN")]
    pub expires_in: Option<Span>,
    /// How to access the tokens.
    #[command(flatten)]
    pub direct: Direct,
}

/// Arguments of `token revoke`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  belfry token revoke ci

All replicas reject it within about a second.")]
pub struct RevokeArgs {
    /// Name of the token's holder
    pub name: String,
    /// How to access the tokens.
    #[command(flatten)]
    pub direct: Direct,
}

/// Creates, lists or revokes tokens.
pub async fn run(command: &TokenCommand, options: &Options, output: &Output) -> anyhow::Result<Exit> {
    match command {
        TokenCommand::Create(args) => create(args, options, output).await,
        TokenCommand::List(direct) => list(direct, options, output).await,
        TokenCommand::Revoke(args) => revoke(args, options, output).await,
    }
}

/// An access to the tokens.
enum Place {
    Service(Client),
    Database(Store),
}

impl Direct {
    async fn place(&self, options: &Options, output: &Output) -> anyhow::Result<Place> {
        if !self.direct {
            return Ok(Place::Service(connection::connect(options, output)?));
        }
        let wrong = |text: String| Fault::new(Exit::Configuration, text);
        let config = self.config.load().map_err(|error| wrong(error.to_string()))?.config;
        Ok(Place::Database(create_store(&config).await?))
    }
}

async fn create(args: &CreateArgs, options: &Options, output: &Output) -> anyhow::Result<Exit> {
    let CreateArgs { name, role, expires_in, direct } = args;
    let life = expires_in.map(|Span(life)| life);
    let token = match direct.place(options, output).await? {
        Place::Service(client) => client.create_token(name, *role, life).await?,
        Place::Database(store) => {
            let new = NewAccess { name: name.clone(), role: *role, life, created_by: direct::by() };
            let issued = access::issue(&store, new).await.map_err(fault)?;
            store.close().await;
            issued.secret.reveal().to_owned()
        }
    };
    match output.format() {
        Format::Json => output.json(&json!({ "name": name, "role": role, "token": token }))?,
        Format::Text => output.verbatim(&token)?,
    }
    output.note(format!("the token of {name}, with the role {role}; store it now, it is not shown again"));
    Ok(Exit::Ok)
}

async fn list(direct: &Direct, options: &Options, output: &Output) -> anyhow::Result<Exit> {
    let tokens = match direct.place(options, output).await? {
        Place::Service(client) => client.tokens().await?,
        Place::Database(store) => {
            let tokens = access::list(&store).await?.into_iter().map(access::TokenView::of).collect();
            store.close().await;
            tokens
        }
    };
    if output.format() == Format::Json {
        tokens.iter().try_for_each(|token| output.json(token))?;
        return Ok(Exit::Ok);
    }
    let rows = tokens.into_iter().map(|token| {
        let state = match (&token.revoked_at, &token.revoked_by) {
            (Some(at), by) => format!("revoked {at} by {}", by.as_deref().unwrap_or("?")),
            (None, _) => token.expires_at.map_or_else(String::new, |at| format!("until {at}")),
        };
        let used = token.last_used_at.unwrap_or_else(|| "never".into());
        [token.name, token.role, token.created_at, token.created_by, used, state]
    });
    output.text(&table(["name", "role", "created", "by", "used", "state"], rows))?;
    Ok(Exit::Ok)
}

async fn revoke(args: &RevokeArgs, options: &Options, output: &Output) -> anyhow::Result<Exit> {
    match args.direct.place(options, output).await? {
        Place::Service(client) => client.revoke_token(&args.name).await?,
        Place::Database(store) => {
            access::revoke(&store, &args.name, &direct::by()).await.map_err(fault)?;
            store.close().await;
        }
    }
    output.note(format!("the token of {} is revoked", args.name));
    Ok(Exit::Ok)
}

fn fault(error: IssueError) -> Fault {
    let exit = match &error {
        IssueError::Name | IssueError::Life => Exit::Usage,
        IssueError::Taken(_) => Exit::Refused,
        IssueError::NotFound(_) => Exit::NotFound,
        IssueError::Randomness(_) | IssueError::Store(_) => Exit::Failure,
    };
    Fault::new(exit, error.to_string())
}
