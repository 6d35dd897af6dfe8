//! Codat's events (source 2): a company connects its accounting software, data are read from it and written to it.
//!
//! Names and payloads follow Codat's public description of its webhooks; the aliases are the rule types from before.
//! Descriptions and example values are ours.

use super::{Line, list_of, one_of, shape};

/// Former names that stand for several types of today.
pub(super) const FORMER_PATTERNS: &[(&str, &str)] = &[
    ("DataConnectionStatusChanged", "connection.*"),
    ("PushOperationStatusChanged", "*.write.*"),
    ("PushOperationTimedOut", "*.write.unsuccessful"),
];

/// What can be written to accounting software, in the plural as in the event's name and as one of them.
const DATA_TYPES: &[(&str, &str)] = &[
    ("bankAccounts", "bank account"),
    ("bankTransactions", "bank transaction"),
    ("billCreditNotes", "bill credit note"),
    ("billPayments", "bill payment"),
    ("bills", "bill"),
    ("chartOfAccounts", "chart of accounts entry"),
    ("creditNotes", "credit note"),
    ("customers", "customer"),
    ("directCosts", "direct cost"),
    ("directIncomes", "direct income"),
    ("invoices", "invoice"),
    ("items", "item"),
    ("journalEntries", "journal entry"),
    ("journals", "journal"),
    ("payments", "payment"),
    ("purchaseOrders", "purchase order"),
    ("suppliers", "supplier"),
    ("transfers", "transfer"),
];

/// The company that every payload refers to.
const COMPANY: &str = concat!(
    r#""referenceCompany":{"id":"8a210b68-6988-11ed-a1eb-0242ac120002","name":"Harbour Books Ltd","#,
    r#""description":"Applied for a line of credit","links":{"portal":"https://portal.example.com/companies/8a210b68"},"#,
    r#""tags":{"region":"uk"}}"#
);

pub(super) fn lines() -> Vec<Line> {
    let mut lines = vec![
        company("company.created", "A company was created."),
        company("company.deleted", "A company was deleted."),
        connection("connection.created", &[], "A company began to connect a data source.", "PendingAuth"),
        connection("connection.connected", &[], "A company connected a data source.", "Linked"),
        connection(
            "connection.disconnected",
            &[],
            "A data source was unlinked, or its authorisation was withdrawn.",
            "Deauthorized",
        ),
        connection(
            "connection.reconnected",
            &[],
            "A data source that was disconnected is connected again.",
            "Linked",
        ),
        connection("connection.failed", &[], "A company could not connect a data source.", "PendingAuth"),
        connection("connection.deleted", &["SyncConnectionDeleted"], "A connection was deleted.", "Unlinked"),
        read(
            "read.completed",
            &["DataSyncCompleted", "DatasetDataChanged", "DataSyncStatusChangedToError"],
            "Data were read from a company's source; the status of each data type tells how it went.",
        ),
        read(
            "read.completed.initial",
            &["NewCompanySynchronized"],
            "Data of a new company were read for the first time.",
        ),
        rate_limit(
            "client.rateLimit.reached",
            &["ClientRateLimitReached"],
            "The daily quota of requests is used up.",
            r#"{"dailyQuota":1000,"expiryDate":"2025-01-16T00:00:00Z","quotaRemaining":0}"#,
        ),
        rate_limit(
            "client.rateLimit.reset",
            &["ClientRateLimitReset"],
            "The daily quota of requests is fresh again.",
            r#"{"dailyQuota":1000,"expiryDate":"2025-01-17T00:00:00Z","quotaRemaining":1000}"#,
        ),
    ];
    for (plural, one) in DATA_TYPES {
        lines.push(write(plural, one, true));
        lines.push(write(plural, one, false));
    }
    lines.extend(solutions());
    lines
}

fn solutions() -> [Line; 11] {
    [
        source_account(
            "bankFeeds.sourceAccount.connected",
            "A source account of a bank feed was connected.",
            "connected",
        ),
        source_account(
            "bankFeeds.sourceAccount.disconnected",
            "A source account of a bank feed was disconnected.",
            "disconnected",
        ),
        expenses(
            "expenses.sync.successful",
            &["SyncCompleted"],
            "Expenses were synchronised without any error.",
            "[]",
        ),
        expenses(
            "expenses.sync.unsuccessful",
            &["SyncFailed"],
            "Expenses could not be synchronised, or not all of them.",
            r#"[{"transactionId":"ef0f7a5e-5d3f-4e7b-8f3a-6d2c6a9a1b77","message":"the account is archived"}]"#,
        ),
        report(
            "reports.categorizedBankStatement.generate.successful",
            &["report.categorizedBankStatement.generate.successful"],
            "A categorised bank statement of a company is ready.",
            "categorizedBankStatement",
        ),
        report(
            "reports.categorizedBankStatement.generate.unsuccessful",
            &[],
            "A categorised bank statement of a company could not be made.",
            "categorizedBankStatement",
        ),
        report(
            "reports.creditModel.generate.successful",
            &[],
            "A credit model of a company is ready.",
            "creditModel",
        ),
        report(
            "reports.creditModel.generate.unsuccessful",
            &[],
            "A credit model of a company could not be made.",
            "creditModel",
        ),
        report(
            "reports.spendAnalysis.generate.successful",
            &[],
            "A spend analysis of a company is ready.",
            "spendAnalysis",
        ),
        report(
            "reports.spendAnalysis.generate.unsuccessful",
            &[],
            "A spend analysis of a company could not be made.",
            "spendAnalysis",
        ),
        Line {
            name: "AccountCategoriesUpdated".to_owned(),
            aliases: &[],
            feature_group: "Companies",
            description: "The accounts of a company were sorted into categories.".to_owned(),
            schema: about_company(&[("modifiedDate", "time")]),
            example: format!("{{{COMPANY},\"modifiedDate\":\"2025-01-15T09:12:44Z\"}}"),
        },
    ]
}

/// The schema of a payload about a company.
fn about_company(members: &[(&str, &str)]) -> String {
    let company = shape(&[
        ("id", "string"),
        ("name", "string"),
        ("description?", "string?"),
        ("links?", &shape(&[("portal?", "url?")])),
        ("tags?", "object?"),
    ]);
    let all: Vec<(&str, &str)> =
        [("referenceCompany", company.as_str())].into_iter().chain(members.iter().copied()).collect();
    shape(&all)
}

fn company(name: &str, description: &str) -> Line {
    Line {
        name: name.to_owned(),
        aliases: &[],
        feature_group: "Companies",
        description: description.to_owned(),
        schema: about_company(&[]),
        example: format!("{{{COMPANY}}}"),
    }
}

fn rate_limit(name: &str, aliases: &'static [&'static str], description: &str, example: &str) -> Line {
    Line {
        name: name.to_owned(),
        aliases,
        feature_group: "Limits",
        description: description.to_owned(),
        schema: shape(&[("dailyQuota", "integer"), ("expiryDate", "time"), ("quotaRemaining", "integer")]),
        example: example.to_owned(),
    }
}

fn connection(name: &str, aliases: &'static [&'static str], description: &str, status: &str) -> Line {
    let example = format!(
        concat!(
            r#"{{{company},"connection":{{"id":"2e9d2c44-f675-40ba-8049-353bfcb5e171","#,
            r#""integrationId":"bf083d72-62c7-493e-aec9-81b4dbba7e2c","integrationKey":"gbol","#,
            r#""sourceId":"bdd831ce-eebd-4896-89a7-20e5ee8989ee","platformName":"Xero","#,
            r#""linkUrl":"https://link.example.com/companies/8a210b68/connections/2e9d2c44/start","status":"{status}","#,
            r#""lastSync":"2025-01-15T08:22:43Z","created":"2025-01-10T09:53:29Z","sourceType":"Accounting"}}}}"#
        ),
        company = COMPANY,
        status = status
    );
    let connection = shape(&[
        ("id", "string"),
        ("integrationId", "string"),
        ("integrationKey", "string"),
        ("sourceId", "string"),
        ("platformName", "string"),
        ("linkUrl", "url"),
        ("status", &one_of(&["PendingAuth", "Linked", "Unlinked", "Deauthorized"])),
        ("lastSync?", "time?"),
        ("created", "time"),
        ("sourceType", "string"),
    ]);
    Line {
        name: name.to_owned(),
        aliases,
        feature_group: "Connections",
        description: description.to_owned(),
        schema: about_company(&[("connection", &connection)]),
        example,
    }
}

fn read(name: &str, aliases: &'static [&'static str], description: &str) -> Line {
    let example = format!(
        concat!(
            r#"{{{company},"modifiedFromDate":"2025-01-14T12:00:00Z","dataTypes":["#,
            r#"{{"connectionId":"2e9d2c44-f675-40ba-8049-353bfcb5e171","dataType":"invoices","recordsModified":true,"#,
            r#""status":"Complete"}},"#,
            r#"{{"connectionId":"2e9d2c44-f675-40ba-8049-353bfcb5e171","dataType":"customers","recordsModified":false,"#,
            r#""status":"Complete"}}]}}"#
        ),
        company = COMPANY
    );
    let data_type = shape(&[
        ("connectionId", "string"),
        ("dataType", "string"),
        ("recordsModified", "boolean"),
        ("status", "string"),
    ]);
    Line {
        name: name.to_owned(),
        aliases,
        feature_group: "Reading data",
        description: description.to_owned(),
        schema: about_company(&[("modifiedFromDate?", "time?"), ("dataTypes", &list_of(&data_type))]),
        example,
    }
}

fn write(plural: &str, one: &str, successful: bool) -> Line {
    let (word, status, code, error) = if successful {
        ("successful", "Success", 200, "null")
    } else {
        ("unsuccessful", "Failed", 400, r#""The reference is used already.""#)
    };
    let description = if successful {
        format!("Writing to the accounting software succeeded: {one}.")
    } else {
        format!("Writing to the accounting software failed: {one}.")
    };
    let example = format!(
        concat!(
            r#"{{{company},"connectionId":"2e9d2c44-f675-40ba-8049-353bfcb5e171","dataType":"{plural}","#,
            r#""pushOperationKey":"b888f774-3e7c-4135-a18c-6b985523c4bc","type":"Create","status":"{status}","#,
            r#""statusCode":{code},"errorMessage":{error},"requestedOnUtc":"2025-01-15T10:00:00Z","#,
            r#""completedOnUtc":"2025-01-15T10:00:04Z"}}"#
        ),
        company = COMPANY,
        plural = plural,
        status = status,
        code = code,
        error = error
    );
    let schema = about_company(&[
        ("connectionId", "string"),
        ("dataType", "string"),
        ("pushOperationKey", "string"),
        ("type", "string"),
        ("status", "string"),
        ("statusCode", "integer"),
        ("errorMessage?", "string?"),
        ("requestedOnUtc", "time"),
        ("completedOnUtc?", "time?"),
    ]);
    Line {
        name: format!("{plural}.write.{word}"),
        aliases: &[],
        feature_group: "Writing data",
        description,
        schema,
        example,
    }
}

fn source_account(name: &str, description: &str, status: &str) -> Line {
    let example = format!(
        concat!(
            r#"{{{company},"connectionId":"2e9d2c44-f675-40ba-8049-353bfcb5e171","sourceAccount":{{"id":"acc-002","#,
            r#""accountName":"Current account","accountType":"Debit","accountNumber":"12345670","sortCode":"040004","#,
            r#""currency":"GBP","balance":99.5,"status":"{status}","modifiedDate":"2025-01-15T08:22:43Z"}}}}"#
        ),
        company = COMPANY,
        status = status
    );
    let account = shape(&[
        ("id", "string"),
        ("accountName", "string"),
        ("accountType", "string"),
        ("accountNumber", "string"),
        ("sortCode?", "string?"),
        ("currency", "string"),
        ("balance", "number"),
        ("status", "string"),
        ("modifiedDate", "time"),
    ]);
    Line {
        name: name.to_owned(),
        aliases: &[],
        feature_group: "Bank feeds",
        description: description.to_owned(),
        schema: about_company(&[("connectionId", "string"), ("sourceAccount", &account)]),
        example,
    }
}

fn expenses(name: &str, aliases: &'static [&'static str], description: &str, failed: &str) -> Line {
    let example = format!(
        r#"{{{COMPANY},"syncId":"ad474a37-2003-478e-baee-9af9f1ec2fe3","syncType":"Expense","failedTransactions":{failed}}}"#
    );
    let failed = list_of(&shape(&[("transactionId", "string"), ("message", "string")]));
    Line {
        name: name.to_owned(),
        aliases,
        feature_group: "Expenses",
        description: description.to_owned(),
        schema: about_company(&[
            ("syncId", "string"),
            ("syncType", "string"),
            ("failedTransactions", &failed),
        ]),
        example,
    }
}

fn report(name: &str, aliases: &'static [&'static str], description: &str, kind: &str) -> Line {
    let example = format!(
        r#"{{{COMPANY},"reportId":"d3f1b6f2-0d5c-4f2c-9e0d-2f3a8f5a7c11","reportType":"{kind}","requestedDate":"2025-01-15T10:00:00Z"}}"#
    );
    Line {
        name: name.to_owned(),
        aliases,
        feature_group: "Reports",
        description: description.to_owned(),
        schema: about_company(&[("reportId", "string"), ("reportType", "string"), ("requestedDate", "time")]),
        example,
    }
}
