# Every program as an image of its own, FROM scratch, and nginx with the pages.
#
#	docker build --target service --build-arg PROGRAM=orders .
#	docker build --target web .
#
# Works for amd64 and arm64, with BuildKit and with the builder before it.
FROM debian:12 AS build
WORKDIR /millrace
COPY deploy/local deploy/local
RUN apt-get update && deploy/local/packages build
COPY package.json package-lock.json .npmrc ./
RUN npm ci --ignore-scripts --loglevel=error && \
    touch node_modules/.package-lock.json
COPY . .
RUN make all && mkdir -p /out/bin /out/data /out/srv && \
    for program in build/bin/*; do \
        strip -o "/out/bin/${program##*/}" "$program" || exit 1; \
    done && \
    cp -R www /out/srv/ && cp -R build/www/vendor /out/srv/www/
ARG HOSTS=
RUN mkdir /out/nginx && deploy/compose/nginx-conf /out/nginx "$HOSTS"

FROM nginx:1.28 AS web
COPY --from=build /out/nginx/ /etc/nginx/
COPY --from=build /out/srv/ /srv/
CMD ["nginx", "-e", "stderr"]

FROM scratch AS service
ARG PROGRAM
COPY --from=build /out/bin/${PROGRAM} /program
# A volume that is mounted here for the first time gets its owner from it.
COPY --from=build --chown=65532:65532 /out/data /data
USER 65532:65532
WORKDIR /
ENTRYPOINT ["/program"]
