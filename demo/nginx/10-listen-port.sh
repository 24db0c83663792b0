#!/bin/sh
# Makes nginx listen on $NGINX_PORT.
set -e
rm -f /etc/nginx/sites-enabled/default
sed "s/NGINX_PORT/${NGINX_PORT}/" /etc/nginx/templates/default.conf.template >/etc/nginx/conf.d/default.conf
