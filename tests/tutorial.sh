#!/bin/bash
# What a tutorial on Docker images types, from the first build to the clean-up, as a session: each
# command behind a prompt, then what it says. `rbuild` is on the PATH, the images `base` and
# `python:3.9` are in its store, REGISTRY is the HOST:PORT of a registry, and the working directory is
# empty. tests/tutorial.rs runs it and compares the session with tests/tutorial.expected.
set -euo pipefail
exec 2>&1

shopt -s expand_aliases
alias docker=rbuild

cat >Dockerfile <<'END'
# The base line ends with a blank, as it does in more than one tutorial.
FROM python:3.9 
LABEL maintainer="someone@example.org"
COPY *.py setup.cfg LICENSE README.md requirements.txt /app/
WORKDIR /app
ENV MODE production mode
RUN pip install --no-cache-dir -r requirements.txt
EXPOSE 8000
USER app
CMD [ "python",   "app.py" ]
END
cat >Dockerfile.prod <<'END'
FROM python:3.9 AS build
WORKDIR /src
COPY . .
RUN mkdir /out && cat app.py helpers.py > /out/all.py

FROM python:3.9
ARG VERSION=unknown
ENV VERSION=${VERSION} \
    LANG=C.UTF-8
COPY --from=build /out/all.py /srv/
ENTRYPOINT ["python"]
CMD ["/srv/all.py"]
END
echo 'print("hello")' >app.py
echo 'def help(): pass' >helpers.py
echo 'flask==2.0' >requirements.txt
echo '[metadata]' >setup.cfg
echo 'Do what you want.' >LICENSE
echo '# myapp' >README.md
printf '.git\n*.pyc\n' >.dockerignore

# From here on every command is shown as it was typed, before it runs.
show() {
    case $1 in rbuild*) printf '\n$ docker%s\n' "${1#rbuild}" ;; esac
}
trap 'show "$BASH_COMMAND"' DEBUG

docker build -t myapp .
docker build -t myapp:1.0 .
docker build -q -t myapp:prod -t myapp:2.0 -f Dockerfile.prod --build-arg VERSION=2.0 .
docker build -q --target build -t myapp:build --file Dockerfile.prod .
docker build -q --no-cache --label stage=test -t myapp:test .
docker build -q --rm=true --force-rm --no-cache=false --pull=false -t myapp:1.1 .
docker image build -q --rm -t myapp:1.1 .
docker buildx build -q --load -t myapp:1.1 .
docker rmi myapp:1.1
docker build -q - <<<'FROM myapp'

docker images
docker images myapp
docker image ls
docker image ls myapp:1.0
docker images -a --filter dangling=true
docker images --filter reference='myapp:*' --filter label=stage=test
docker images --format '{{.Repository}}:{{.Tag}}' myapp
docker images --format 'table {{.Repository}}\t{{.Tag}}' --filter before=myapp:latest
docker images -q myapp:1.0
docker images --no-trunc --digests myapp:1.0

docker image tag myapp:1.0 "$REGISTRY/team/myapp:1.0"
docker tag myapp "$REGISTRY/team/myapp"
docker images "$REGISTRY/team/myapp"
docker image push "$REGISTRY/team/myapp:1.0"
docker push "$REGISTRY/team/myapp"
docker push --all-tags "$REGISTRY/team/myapp"

docker image history myapp:1.0
docker history --no-trunc --format '{{.CreatedBy}}' myapp:1.0
docker history -q myapp:1.0
docker inspect --format '{{json .Config.Env}}' myapp
docker inspect --format '{{.Config.Cmd}} {{.Config.User}} {{.Config.WorkingDir}}' myapp:1.0
docker image inspect -f '{{.Os}}/{{len .RootFS.Layers}} {{index .RepoTags 0}}' myapp:prod
docker inspect --format '{{json .Config.ExposedPorts}}' myapp:1.0
docker inspect base

docker run myapp
docker run --rm -it myapp:prod || echo "exit code $?"
docker run --rm myapp:prod /srv/other.py
docker container run --rm=true myapp:prod /srv/other.py
docker run --rm -e MODE=debug -w / --entrypoint sh myapp -c 'echo "$MODE in $PWD as $(id -un)"'
docker run --rm -v "$PWD:/work:ro" myapp ls /work

docker save -o myapp.tar myapp:1.0 myapp:prod
docker image rm myapp:1.0
docker rmi myapp:prod myapp:2.0
docker load -i myapp.tar
docker image load --quiet <myapp.tar
docker save myapp:1.0 >single.tar
docker load <single.tar

docker rmi "$REGISTRY/team/myapp" "$REGISTRY/team/myapp:1.0"
docker rmi -f myapp:latest myapp:1.0
docker image pull "$REGISTRY/team/myapp:1.0"
docker pull "$REGISTRY/team/myapp:1.0"
docker pull -q "$REGISTRY/team/myapp"
docker pull "$REGISTRY/team/nothing" || echo "exit code $?"
docker run "$REGISTRY/team/myapp"

docker image rm missing || echo "exit code $?"
docker image prune -f
docker image prune --all --force
docker builder prune --all --force >pruned
tail -n 1 pruned
docker system df
docker images
