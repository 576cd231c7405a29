//! The definitions of `scripts/ci`, which `scripts/matrix` tries out.

use std::str::FromStr;

/// What `--for` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Definition {
    Kubernetes,
    Gitlab,
    Github,
    Docker,
    Tekton,
    Seccomp,
    AppArmor,
}

const NAMES: [(&str, Definition); 8] = [
    ("k8s", Definition::Kubernetes),
    ("kubernetes", Definition::Kubernetes),
    ("gitlab", Definition::Gitlab),
    ("github", Definition::Github),
    ("docker", Definition::Docker),
    ("tekton", Definition::Tekton),
    ("seccomp", Definition::Seccomp),
    ("apparmor", Definition::AppArmor),
];

impl Definition {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Kubernetes => include_str!("../../../scripts/ci/kubernetes-job.yaml"),
            Self::Gitlab => include_str!("../../../scripts/ci/gitlab-ci.yml"),
            Self::Github => include_str!("../../../scripts/ci/github-workflow.yml"),
            Self::Docker => include_str!("../../../scripts/ci/docker-run.sh"),
            Self::Tekton => include_str!("../../../scripts/ci/tekton-task.yaml"),
            Self::Seccomp => include_str!("../../../scripts/ci/seccomp-rbuild.json"),
            Self::AppArmor => include_str!("../../../scripts/ci/apparmor-rbuild"),
        }
    }
}

impl FromStr for Definition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        NAMES
            .into_iter()
            .find(|(name, _)| *name == text)
            .map(|(_, definition)| definition)
            .ok_or_else(|| {
                "it is none of k8s, gitlab, github, docker, tekton, seccomp and apparmor".to_owned()
            })
    }
}
