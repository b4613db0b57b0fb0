//! Prints exchanges in the form that the command line asks for.

use echoic_core::{
    event::Micros,
    exchange::{Conversation, Exchange},
    filter::Filter,
    view::EventJson,
};

use super::Stop;
use crate::{
    cli::FormArgs,
    local_time::{self, Rfc3339, WithTime},
    pretty::{self, Body, Columns},
    term::{self, Payload},
};

/// The form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A line of JSON for each exchange.
    Json,
    /// A line for each exchange, in columns.
    List,
    /// Each exchange in full.
    Whole(Body),
}

impl Form {
    pub(super) fn of(args: &FormArgs) -> Self {
        if args.hex {
            Self::Whole(Body::Hex)
        } else if args.show {
            Self::Whole(Body::Text)
        } else if args.text || term::is_on_terminal() && !args.json {
            Self::List
        } else {
            Self::Json
        }
    }
}

pub(super) struct Printer {
    payload: Payload,
    pub(super) form: Form,
    columns: Columns,
    time: Rfc3339,
    pub(super) printed: u64,
    /// Time of the oldest request printed.
    pub(super) oldest: Option<Micros>,
}

impl Printer {
    pub(super) fn new(form: Form, payload: Payload) -> Self {
        Self {
            payload,
            form,
            // The day on which the command starts: times of later days have a date, so that a list is unambiguous that
            // goes on past midnight.
            columns: Columns::new(local_time::now().date()),
            time: Rfc3339::default(),
            printed: 0,
            oldest: None,
        }
    }

    pub(super) fn is_list_on_terminal(&self) -> bool {
        self.form == Form::List && self.payload.pretty
    }

    /// Widens the columns for exchanges that will be printed.
    pub(super) fn make_room<'a>(&mut self, exchanges: impl IntoIterator<Item = &'a Exchange>) {
        for exchange in exchanges {
            self.columns
                .make_room(exchange.at, exchange.conversation.id);
        }
    }

    pub(super) fn print(&mut self, exchange: &Exchange, filter: &Filter) -> Result<(), Stop> {
        self.printed += 1;
        let oldest = self.oldest.unwrap_or(exchange.at);
        self.oldest = Some(oldest.min(exchange.at));
        match self.form {
            Form::Json => {
                let object = WithTime::new(exchange, exchange.at, &mut self.time);
                self.payload.json(&object)?;
            }
            Form::List => {
                self.make_room([exchange]);
                let line = pretty::line(exchange, &self.columns, Some(filter));
                self.payload.line(format_args!("{line}"))?;
            }
            Form::Whole(body) => {
                let text = pretty::whole(exchange, body);
                self.payload.line(format_args!("{text}"))?;
            }
        }
        Ok(())
    }

    /// Prints a conversation that has no exchange.
    pub(super) fn conversation(&mut self, conversation: &Conversation) -> Result<(), Stop> {
        self.columns.make_room(conversation.opened, conversation.id);
        let line = pretty::conversation_without_exchange(conversation, &self.columns);
        self.payload.line(format_args!("{line}"))?;
        if let Form::Whole(body) = self.form {
            let left_over = pretty::left_over(conversation, body);
            if !left_over.is_empty() {
                self.payload.line(format_args!("{left_over}"))?;
            }
        }
        Ok(())
    }

    /// Prints the ends of conversations with bytes that made no message, as `serve --json` does: no exchange shows them.
    pub(super) fn left_over<'a>(
        &mut self,
        conversations: impl Iterator<Item = &'a Conversation>,
    ) -> Result<(), Stop> {
        let ends = conversations.filter(|conversation| conversation.left_over().is_some());
        for end in ends.filter_map(EventJson::end) {
            self.payload.json(&end)?;
        }
        self.flush()
    }

    /// Writes what is printed so far. The terminal may have another size after it.
    pub(super) fn flush(&mut self) -> Result<(), Stop> {
        self.payload.flush()?;
        self.columns.resize();
        Ok(())
    }
}
