# The image installs with the Makefile's own target, so that what continuous integration proves
# holds here too. Build: docker build -t dataset-pipeline .
FROM python:3.12-slim

RUN apt-get update \
    && apt-get install --yes --no-install-recommends make \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home pipeline
WORKDIR /home/pipeline/app
COPY --chown=pipeline . .
USER pipeline
RUN make install && rm -rf ~/.cache
ENV PATH="/home/pipeline/app/.venv/bin:$PATH"

# The UI has no login and listens on the loopback address of the container alone: publish it
# through an authenticating proxy in the same network namespace, or build from the command line:
#   docker run -v $PWD/data:/data dataset-pipeline build /data/dataset.yaml --storage /data/storage
ENTRYPOINT ["dataset-pipeline"]
CMD ["--help"]
