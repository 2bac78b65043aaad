-- Orders of one laptop, for wrk.
wrk.method = "POST"
wrk.body = '{"item":"Laptop","quantity":1}'
wrk.headers["Content-Type"] = "application/json"
