import java.io.ByteArrayInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.time.Duration;

/** A JDK HttpClient as it comes, which offers h2c with each request: one line for each, status and body. */
class Offers {
    static final HttpClient CLIENT = HttpClient.newHttpClient();

    public static void main(String[] given) throws Exception {
        String url = given[0], apiToken = given[1], token = given[2], team = given[3];
        String json = "application/json", form = "application/x-www-form-urlencoded";
        String create = "{\"team_id\": \"" + team + "\", \"name\": \"from Java\"}";
        ask("POST", url + "/scim-token", apiToken, json, BodyPublishers.ofString(create));
        ask("POST", url + "/verify", apiToken, json, BodyPublishers.ofString("{\"token\": \"" + token + "\"}"));
        ask("POST", url + "/introspect", apiToken, form, BodyPublishers.ofString("token=" + token));
        ask("POST", url + "/revoke", null, form, BodyPublishers.ofString("token=nothing"));
        ask("GET", url + "/scim/v2/Users", token, null, BodyPublishers.noBody());
        byte[] body = "x".repeat(70_000).getBytes();
        ask("POST", url + "/scim/v2/Users", token, json, BodyPublishers.ofByteArray(body));
        ask("PATCH", url + "/scim/v2/Users/1", token, json,
            BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(body)));
        ask("DELETE", url + "/scim/v2/Users/1", token, null, BodyPublishers.noBody());
    }

    static void ask(String method, String url, String bearer, String type, BodyPublisher body) throws Exception {
        var request = HttpRequest.newBuilder(URI.create(url)).timeout(Duration.ofSeconds(10)).method(method, body);
        if (bearer != null) request.header("Authorization", "Bearer " + bearer);
        if (type != null) request.header("Content-Type", type);
        var answer = CLIENT.send(request.build(), BodyHandlers.ofString());
        System.out.println(answer.statusCode() + " " + answer.version() + " " + answer.body());
    }
}
