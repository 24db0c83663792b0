from flask import Flask

app = Flask(__name__)


@app.get("/")
def hello():
    return "flask answers"


print(app.test_client().get("/").get_data(as_text=True))
