//! The rules by name: BuildKit's, with its words, and those of rbuild.

/// One rule. Its name is what `# check=skip=` takes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) name: &'static str,
    /// What the rule asks for: one sentence.
    pub(crate) description: &'static str,
    /// The page of Docker's manual, without what is common to all of them; empty for none.
    page: &'static str,
    /// Asked only when `experimental=` names it.
    pub(crate) experimental: bool,
}

impl Rule {
    const fn buildkit(name: &'static str, page: &'static str, description: &'static str) -> Self {
        Self {
            name,
            description,
            page,
            experimental: false,
        }
    }

    const fn own(name: &'static str, description: &'static str) -> Self {
        Self::buildkit(name, "", description)
    }

    const fn experimental(mut self) -> Self {
        self.experimental = true;
        self
    }

    /// Where the rule is explained.
    pub(crate) fn url(&self) -> Option<String> {
        (!self.page.is_empty())
            .then(|| format!("https://docs.docker.com/go/dockerfile/rule/{}/", self.page))
    }
}

macro_rules! rules {
    ($($id:ident = $rule:expr;)*) => {
        $(pub(crate) static $id: Rule = $rule;)*
        /// Every rule, in the order of the documentation.
        pub(crate) static ALL: &[&Rule] = &[$(&$id),*];
    };
}

rules! {
    STAGE_NAME_CASING = Rule::buildkit(
        "StageNameCasing", "stage-name-casing", "Stage names should be lowercase");
    FROM_AS_CASING = Rule::buildkit(
        "FromAsCasing", "from-as-casing",
        "The 'as' keyword should match the case of the 'from' keyword");
    NO_EMPTY_CONTINUATION = Rule::buildkit(
        "NoEmptyContinuation", "no-empty-continuation",
        "Empty continuation lines will become errors in a future release");
    CONSISTENT_INSTRUCTION_CASING = Rule::buildkit(
        "ConsistentInstructionCasing", "consistent-instruction-casing",
        "All commands within the Dockerfile should use the same casing (either upper or lower)");
    DUPLICATE_STAGE_NAME = Rule::buildkit(
        "DuplicateStageName", "duplicate-stage-name", "Stage names should be unique");
    RESERVED_STAGE_NAME = Rule::buildkit(
        "ReservedStageName", "reserved-stage-name",
        "Reserved words should not be used as stage names");
    JSON_ARGS_RECOMMENDED = Rule::buildkit(
        "JSONArgsRecommended", "json-args-recommended",
        "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to \
         OS signals");
    MAINTAINER_DEPRECATED = Rule::buildkit(
        "MaintainerDeprecated", "maintainer-deprecated",
        "The MAINTAINER instruction is deprecated, use a label instead to define an image author");
    UNDEFINED_ARG_IN_FROM = Rule::buildkit(
        "UndefinedArgInFrom", "undefined-arg-in-from", "FROM command must use declared ARGs");
    WORKDIR_RELATIVE_PATH = Rule::buildkit(
        "WorkdirRelativePath", "workdir-relative-path",
        "Relative workdir without an absolute workdir declared within the build can have \
         unexpected results if the base image changes");
    UNDEFINED_VAR = Rule::buildkit(
        "UndefinedVar", "undefined-var", "Variables should be defined before their use");
    MULTIPLE_INSTRUCTIONS_DISALLOWED = Rule::buildkit(
        "MultipleInstructionsDisallowed", "multiple-instructions-disallowed",
        "Multiple instructions of the same type should not be used in the same stage");
    LEGACY_KEY_VALUE_FORMAT = Rule::buildkit(
        "LegacyKeyValueFormat", "legacy-key-value-format",
        "Legacy key/value format with whitespace separator should not be used");
    INVALID_BASE_IMAGE_PLATFORM = Rule::buildkit(
        "InvalidBaseImagePlatform", "",
        "Base image platform does not match expected target platform");
    REDUNDANT_TARGET_PLATFORM = Rule::buildkit(
        "RedundantTargetPlatform", "redundant-target-platform",
        "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the \
         default behavior");
    SECRETS_USED_IN_ARG_OR_ENV = Rule::buildkit(
        "SecretsUsedInArgOrEnv", "secrets-used-in-arg-or-env",
        "Sensitive data should not be used in the ARG or ENV commands");
    INVALID_DEFAULT_ARG_IN_FROM = Rule::buildkit(
        "InvalidDefaultArgInFrom", "invalid-default-arg-in-from",
        "Default value for global ARG results in an empty or invalid base image name");
    FROM_PLATFORM_FLAG_CONST_DISALLOWED = Rule::buildkit(
        "FromPlatformFlagConstDisallowed", "from-platform-flag-const-disallowed",
        "FROM --platform flag should not use a constant value");
    COPY_IGNORED_FILE = Rule::buildkit(
        "CopyIgnoredFile", "copy-ignored-file",
        "Attempting to Copy file that is excluded by .dockerignore");
    INVALID_DEFINITION_DESCRIPTION = Rule::buildkit(
        "InvalidDefinitionDescription", "invalid-definition-description",
        "Comment for build stage or argument should follow the format: `# <arg/stage name> \
         <description>`. If this is not intended to be a description comment, add an empty line \
         or comment between the instruction and the comment.").experimental();
    EXPOSE_PROTO_CASING = Rule::buildkit(
        "ExposeProtoCasing", "expose-proto-casing",
        "Protocol in EXPOSE instruction should be lowercase");
    EXPOSE_INVALID_FORMAT = Rule::buildkit(
        "ExposeInvalidFormat", "expose-invalid-format",
        "IP address and host-port mapping should not be used in EXPOSE instruction. This will \
         become an error in a future release");

    BROKEN_JSON_FORM = Rule::own(
        "BrokenJSONForm", "Text that looks like a JSON array but is none runs in the shell");
    HEALTHCHECK_FLAGS_IGNORED = Rule::own(
        "HealthcheckFlagsIgnored", "HEALTHCHECK NONE has no use for flags");
    PLATFORM_ARG_REDEFINED = Rule::own(
        "PlatformArgRedefined",
        "A default hides the value that the builder gives to a platform argument");
    RUN_CD_USELESS = Rule::own(
        "RunCdUseless", "The working directory of a RUN ends with it; WORKDIR stays");
    RUN_EXPORT_USELESS = Rule::own(
        "RunExportUseless", "The variables of a RUN end with it; ENV stays");
    SECRET_IN_RUN_TEXT = Rule::own(
        "SecretInRunText",
        "Credentials in the text of an instruction are in the history of the image");
    UNKNOWN_CHECK = Rule::own(
        "UnknownCheck", "The names of check= should be names of rules");
    UNREACHABLE_STAGE = Rule::own(
        "UnreachableStage", "A stage that neither has a name nor is read by another is never built",
    );
    ADD_FOR_PLAIN_FILE = Rule::own(
        "AddForPlainFile", "COPY says that files are only copied").experimental();
    APT_LISTS_NOT_REMOVED = Rule::own(
        "AptListsNotRemoved",
        "The package lists of apt-get update should not stay in a layer").experimental();
    CHOWN_AFTER_COPY = Rule::own(
        "ChownAfterCopy", "COPY --chown writes the files once, a later chown twice").experimental();
    COPY_DOT_BEFORE_DEPS = Rule::own(
        "CopyDotBeforeDeps",
        "Dependencies should be installed before the whole context is copied").experimental();
    SUDO_IN_RUN = Rule::own(
        "SudoInRun", "A RUN is root unless USER says otherwise").experimental();
}

/// The rule called `name`.
pub(crate) fn find(name: &str) -> Option<&'static Rule> {
    ALL.iter().copied().find(|rule| rule.name == name)
}
